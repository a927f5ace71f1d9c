"""What a fit returns, and how it is told."""

from typing import NamedTuple

import jax

from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate, is_scalar


class FitResult(NamedTuple):
    """What a fit found, and how it went there; a tree of arrays, also under `jit` and `vmap`.

    `print` shows one line: the loss of the start, the loss, how many steps lie between them, and
    whether they converged, or of a fit to a density what they cost.

    Attributes:
      gmm: the fitted mixture.
      loss: an `Estimate` of its loss with a key that no step has seen; NaN where nothing finite was
        found.
      start: the loss of the start with the same key, so that the two can be compared.
      num_steps: how many steps were taken.
      num_skipped: how many were not, because loss, gradient or update were not finite, or the error
        of the loss exploded.
      converged: whether the stopping rule ended the fit.
      losses: `(num_steps,)` loss of each step, NaN after a stop.
      stderrs: `(num_steps,)` its standard error; 0 where the loss states none.
      gradient_norms: `(num_steps,)` norm of the gradient in the parameters of the fit.
      num_evaluations: at how many points a target density was evaluated (see
        `gmmjax.fit_to_density`); 0 where there is none.

    Example:
      >>> import gmmjax
      >>> gmmjax.FitResult._fields[:3]
      ('gmm', 'loss', 'start')
    """

    gmm: GMM
    loss: Estimate
    start: Estimate
    num_steps: jax.Array
    num_skipped: jax.Array
    converged: jax.Array
    losses: jax.Array
    stderrs: jax.Array
    gradient_norms: jax.Array
    num_evaluations: jax.Array | int = 0

    def __str__(self):
        if not is_scalar(self.loss):  # under jit, or a batch
            return _as_tuple(self)
        steps = f"{self.start.value:.3g} → {self.loss}, {int(self.num_steps)} steps"
        return f"{steps}, {self._ending}"

    @property
    def _ending(self):
        # A fit to a density takes all of its steps: it has no rule to stop by, but a price.
        if self.num_evaluations:
            return f"{int(self.num_evaluations):,} evaluations"
        return "converged" if self.converged else "not converged"

    def __repr__(self):
        return f"FitResult({self})" if is_scalar(self.loss) else _as_tuple(self)


def _as_tuple(result):
    fields = (f"{name}={value!r}" for name, value in result._asdict().items())
    return f"FitResult({', '.join(fields)})"
