"""Variational inference: fitting a mixture to an unnormalised density by natural gradients."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._fitting.descent import Record
from gmmjax._fitting.result import FitResult
from gmmjax._fitting.segments import compiled_fit
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, as_float, index
from gmmjax._mixture.join import pad_checked
from gmmjax._trees import choose
from gmmjax._validate import check_between, check_count, check_function, keyed, warn
from gmmjax._variational import fit_state, sight, steps
from gmmjax._variational.fit_state import Method, Problem, State


@keyed
def fit_to_density(
    key,
    log_density: Callable,
    init: GMM,
    *,
    num_steps: int = 300,
    samples_per_component: int = 100,
    max_components: int | None = None,
    differentiable: bool = True,
    args: tuple = (),
    max_kl: float = 1.0,
    num_samples: int = 2048,
    progress: bool = False,
    checkpoint=None,
    interval: int = 50,
) -> FitResult:
    r"""Variational inference, :math:`\min_q \mathbb E_q[\log q - \log \tilde\pi]`, by natural
    gradients.

    Every step fits a quadratic to :math:`\log \tilde\pi - \log q` at points of each component's
    own, and takes the largest step towards its optimum inside a trust region, whose size grows
    while the component improves. Weights follow in a trust region of their own; in a fit of fixed
    size they wait until components have moved. Over the last 40 % of a fit steps shrink, so that
    noise averages out. Where the target is Gaussian the fit is exact; affine maps of the target,
    with the start mapped likewise, change nothing.

    With `max_components`, components are added until steps shrink, in turn narrow ones that climb
    by themselves from points of the start to a mode, and wider or further ones where the target
    most exceeds the fit; they are dropped where they stay without weight. What is returned is a
    local optimum at best, or the start, where that is no worse at points that no step has used.

    With `progress` or `checkpoint` a Python loop runs compiled segments, and Ctrl-C returns the
    best so far with a warning. Otherwise the fit is one scan, which `jit` and `vmap` take.

    Args:
      key: a JAX key.
      log_density: maps points `(n, D)` and `args` to :math:`\log \tilde\pi`, `(n,)`. Pass the same
        function object again to avoid recompilation.
      init: the start: components that cover where the target may lie, such as one broad Gaussian,
        or `gmmjax.moment_start(key, broad, 10)`. Its scale says which covariances are fitted: full,
        diagonal or spherical, not tied.
      num_steps: how many steps.
      samples_per_component: points of each component in each step, rounded up to an even number,
        for they come in opposite pairs; at least 2 D, and without gradients D², are advisable.
      max_components: how many components there may be; None keeps those of `init`.
      differentiable: False takes values of `log_density` alone.
      args: further arguments of `log_density`; their values may change without recompilation.
      max_kl: the KL, in nats, by which a component may move in one step; those that climb to a mode
        move by more, and step back where that made them worse.
      num_samples: points of each of the two final estimates, `loss` and `start`.
      progress: show a bar with the loss and its error; needs `pip install gmmjax[progress]`.
      checkpoint: a path. The state is written there after each segment, atomically, as a plain .npz
        file; if the file exists, the fit goes on from it to the same result.
      interval: steps per segment.

    Returns:
      A `FitResult`. Its `loss` is :math:`-\mathrm{ELBO} = \mathrm{KL}(q \| \pi) - \log Z` in nats;
      `num_skipped` counts steps in which a component met values that are not finite and went
      halfway back, `gradient_norms` are those of the natural gradient, `converged` is False, for
      all steps are taken, and absent components have logits of −inf.

    Raises:
      TypeError: `key` is not a key, `init` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree; a count is below 1, or `max_components` below the size of `init`;
        `init` has a tied scale; `log_density` does not return one value per point; `progress` or
        `checkpoint` under `jit` or `vmap`; `checkpoint` is not the state of this fit.

    Reference:
      Arenz, Dahlinger, Ye, Volpp and Neumann (2023), "A unified perspective on natural gradient
      variational inference with Gaussian mixture models", sections 3 and 4; Abdolmaleki, Lioutikov,
      Peters, Lau, Reis and Neumann (2015), "Model-based relative entropy stochastic search"
      (without gradients).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> log_density = lambda x: -0.5 * jnp.sum((x - 3.0) ** 2, axis=1) / 0.25
      >>> broad = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.full((1, 2), 5.0))
      >>> result = gmmjax.fit_to_density(jax.random.key(0), log_density, broad, num_steps=40)
      >>> print(abs(result.gmm.means - 3).max() < 1e-3, abs(result.gmm.scale - 0.5).max() < 1e-3)
      True True
    """
    check_function("log_density", log_density)
    method = Method(
        log_density,
        check_count("num_steps", num_steps),
        2 * -(-check_count("samples_per_component", samples_per_component) // 2),
        check_count("num_samples", num_samples),
        _static_kl(max_kl),
        bool(differentiable),
        max_components is not None,
    )
    interval = check_count("interval", interval)
    problem = Problem(key, _start(init, max_components), tuple(args))
    return _told(_descend(method, problem, interval, progress, checkpoint))


def _static_kl(max_kl):
    if is_traced(max_kl):
        raise TypeError("max_kl: is traced, but is static and must be a Python float")
    return float(check_between("max_kl", max_kl, 0.0, float("inf")))


def _start(init, max_components):
    init = as_float("init", init)
    size = init.num_components
    if init.scale.shape[0] != size:
        raise ValueError(
            f"init: has a tied scale {init.scale.shape}, but components move one by one; "
            "repeat it for each of them"
        )
    if max_components is None:
        return init
    if check_count("max_components", max_components) < size:
        raise ValueError(
            f"max_components: expected at least the {size} components of init, got {max_components}"
        )
    return pad_checked(init, max_components)


def _told(result):
    """The result, after a word about the density where values are concrete."""
    if is_traced(result):
        return result
    if skipped := int(result.num_skipped):
        warn(
            f"fit_to_density: in {skipped} steps log_density or its gradient was not finite; "
            "the components that met it went halfway back"
        )
    if not np.isfinite(result.loss.value):
        warn(
            f"fit_to_density: the loss is {float(result.loss.value)}, for log_density is not "
            "finite at all points of the mixture: begin where it is, and fit in coordinates "
            "without borders (logarithms of what is positive, with the log-determinant of that "
            "map in log_density)"
        )
    return result


def _finish(method: Method, problem: Problem, state: State, records: Record) -> FitResult:
    """What was found, or the start where that is no worse, at points that no step has used."""
    key = jax.random.fold_in(problem.key, method.num_steps)
    candidates = jax.tree.map(lambda a, b: jnp.stack([a, b]), problem.init, state.q)
    losses, counts = jax.lax.map(lambda q: sight.loss(method, problem, key, q), candidates)
    start, found = index(losses, 0), index(losses, 1)
    sound = jnp.isfinite(found.value) & jnp.isfinite(found.stderr)
    better = sound & ~(start.value <= found.value)
    gmm, best = choose(better, (state.q, found), (problem.init, start))
    return FitResult(
        gmm,
        best,
        start,
        state.num_steps,
        state.num_skipped,
        state.stopped,
        *records,
        state.num_evaluations + jnp.sum(counts),
    )


_descend = compiled_fit("fit_to_density", fit_state.begin, steps.advance, _finish)
