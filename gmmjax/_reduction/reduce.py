"""Mixture reduction: merge, move, search, descend, and choose on common noise."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, overload

import jax
import numpy as np

from gmmjax._estimates.kl import kl_divergence
from gmmjax._fitting.fit import FitResult
from gmmjax._jax import is_traced
from gmmjax._kept import kept_quickly
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._mixture.join import drop_absent
from gmmjax._progress import watched
from gmmjax._reduction import costs, descent, partitions, parts, search
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import check_count, keyed, warn

# Numbers of p, beyond which a program that is compiled quickly takes a second to run.
MAX_QUICK = 2048
MAX_KEPT = 2  # starts that are compared as they are: sharp and shared clusters


@overload
def reduce_mixture(key, p: GMM, num_components: int, **options) -> FitResult: ...
@overload
def reduce_mixture(
    key, p: GMM, num_components: Iterable[int], **options
) -> dict[int, FitResult]: ...
@keyed
def reduce_mixture(
    key,
    p: GMM,
    num_components,
    *,
    divergence: Callable = kl_divergence,
    cost: Callable = costs.runnalls,
    init: GMM | Callable | None = None,
    num_restarts: int = 16,
    num_steps: int = 200,
    preserve_moments: bool = False,
    progress: bool = False,
):
    r"""The nearest mixture of fewer components, in forward KL or another divergence.

    Sought is :math:`\min_q \mathrm{KL}(p \| q)`. Components are merged greedily, then moved and
    exchanged one by one between the clusters that arose while that lowers Runnalls' bound; further
    partitions, and centres among draws, are chosen at random. From all of them the fixed point of
    :math:`\mathrm{KL}(p \| q)` is sought (each component takes the moments of what it is
    responsible for), on Sobol points of p, and from the best of them again and again with a
    component replaced, or two merged and another put where p is missed. The divergence is then
    minimised from there by gradient (L-BFGS, forward KL on the same points of p, others with common
    random numbers). Results are compared, with the greedy one among them, by one key that no step
    has used. An approximation: the best of many local minima, in nats for the default.

    More than 1,024 components are merged with near neighbours first, by Runnalls' cost, and shared
    among clusters all at once; these are compared, too. Where K times n is above 131,072 that is
    all, whatever the divergence: points would say less of p, and no gradient step is taken.

    Args:
      key: a JAX key.
      p: a concrete mixture (not under `jit` or `vmap`) of K components.
      num_components: how many to keep, a Python int, or several of them (a range) to choose from.
      divergence: `(key, p, q)` to an `Estimate`, the first argument of that name, or `(p, q)` to a
        scalar; with true derivatives. For reverse KL:
        `lambda key, p, q: gmmjax.kl_divergence(key, q, p, stick_the_landing=False)`.
      cost: what greedy merging minimises, for example `gmmjax.runnalls`; see `gmmjax.greedy_start`.
      init: in place of merging and moving, a mixture to start from, or a function `(key, p,
        num_components)` to one, such as `gmmjax.kmeans_start`, called `num_restarts` times.
      num_restarts: how many starts, and how many rounds of changes to the best of them at most.
        Four take a third of the time, and find what is good if not the best.
      num_steps: how many gradient steps at most.
      preserve_moments: map the result so that it has the mean and the covariance (in the structure
        of `p`) of p.
      progress: show a bar over the rounds, or over several `num_components`; Ctrl-C then returns
        the best so far, or those that are done, with a warning. Needs `pip install
        gmmjax[progress]`.

    Returns:
      A `FitResult`, or for several `num_components` a dict `{n: FitResult}`, whose losses are the
      curve to choose from. Its `gmm` has the structure of `p`, untied, and no component without
      weight: fewer than `num_components` where they are not needed. `start` is the loss of greedy
      merging, `losses` those of the gradient steps.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, values are not finite, a count is below 1, no count is given, or
        `p` is traced.
      ImportError: `progress` without tqdm, or more than 1,024 components without SciPy.

    Reference:
      Runnalls (2007), "Kullback-Leibler approach to Gaussian mixture reduction"; Hartigan (1975),
      "Clustering algorithms", chapter 4 (moves); Varadhan and Roland (2008), "Simple and globally
      convergent methods for accelerating the convergence of any EM algorithm", scheme S3;
      Vasconcelos and Lippman (1998), "Learning mixture hierarchies" (shared clusters).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [1.0], [9.0]]), jnp.ones(3))
      >>> result = gmmjax.reduce_mixture(jax.random.key(0), p, 2, num_restarts=2)
      >>> print(jnp.sort(result.gmm.means[:, 0]).round(1), bool(result.loss.value < 1e-3))
      [0.5 9. ] True
    """
    num_restarts = check_count("num_restarts", num_restarts)
    num_steps = check_count("num_steps", num_steps)
    p = _checked_target(p)
    several = isinstance(num_components, Iterable)
    counts = list(num_components) if several else [num_components]
    if not counts:
        raise ValueError("num_components: expected a number or several, got none")
    counts = [check_count("num_components", count) for count in counts]
    frame = parts.frame(p)
    if isinstance(init, GMM):
        init = parts.into(frame, _checked_start(init, p, counts))
    white = drop_absent(parts.into(frame, p))
    options = divergence, max(counts), cost, num_restarts, num_steps, preserve_moments
    task = _Task(white, p.means.dtype, *options)

    def reduce(count, progress):
        result = _reduce(key, task, count, init, progress)
        gmm = parts.to_jax(parts.out_of(frame, result.gmm), task.dtype)
        return result._replace(gmm=gmm)

    if several:
        return _each(lambda count: reduce(count, False), counts, progress)
    return reduce(counts[0], progress)


def _each(reduce, counts, progress):
    """The reductions to several numbers of components, or to those that were done at Ctrl-C."""
    results = {}
    with watched(counts, progress, desc="reduce", unit="reduction") as shown:
        try:
            for count in shown:
                results[count] = reduce(count)
        except KeyboardInterrupt:
            if not progress or not results:
                raise
            done = f"{len(results)} of {len(counts)}"
            warn(f"reduce_mixture: interrupted, {done} reductions are done")
    return results


def _checked_target(p):
    """The mixture to reduce: concrete, for starts are chosen in Python."""
    p = as_float("p", p)
    if is_traced(p):
        raise ValueError(
            "p: is traced; reduce_mixture chooses between starts outside jit and vmap, "
            "where gmmjax.fit works"
        )
    return p


def _checked_start(init, p, counts):
    """A mixture to start from, of no more components than are wanted."""
    init = as_float("init", init)
    most = min(counts, default=init.num_components)
    if init.dim != p.dim or init.num_components > most:
        wanted = f"at most {most} components in {p.dim} dimensions"
        raise ValueError(f"init: expected {wanted}, got {init.num_components} in {init.dim}")
    return init


class _Task(NamedTuple):
    """What is asked of all reductions to several numbers of components."""

    p: GMM  # of NumPy arrays, without absent components, in coordinates where its covariance is 1
    dtype: jax.typing.DTypeLike
    divergence: Callable
    capacity: int  # the largest number of components
    cost: Callable
    num_restarts: int
    num_steps: int
    preserve_moments: bool

    def target(self) -> GMM:
        """The mixture as divergences take it."""
        return parts.to_jax(self.p, self.dtype)

    def loss(self, key, q: GMM) -> Estimate:
        """The divergence of a mixture from p."""
        if self.divergence is not kl_divergence or self.p.means.size > MAX_QUICK:
            return descent.evaluate(
                self.divergence, key, self.target(), parts.to_jax(q, self.dtype)
            )
        # One program for all numbers of components.
        return _quick_kl(key, self.target(), parts.to_jax(q, self.dtype, self.capacity))


@kept_quickly
def _quick_kl(key, p, q):
    return kl_divergence(key, p, q)


@kept_quickly
def _four_keys(key):
    return tuple(jax.random.split(key, 4))


def _reduce(key, task, count, init, progress):
    """The reduction in coordinates where the covariance of p is 1."""
    p = task.p
    key_starts, key_search, key_descent, key_choice = _four_keys(key)
    greedy, starts = partitions.starts(
        key_starts, task.target(), count, task.cost, init, task.num_restarts
    )
    fits = []
    if partitions.is_searched(p, greedy.num_components):
        fits += _found(key_search, key_descent, task, starts, progress)
    if partitions.is_large(p):
        fits += [descent.kept(q, task.num_steps) for q in starts[:MAX_KEPT]]
    candidates = [greedy, *(result.gmm for result in fits)]
    if task.preserve_moments:
        candidates = [_with_moments_of(p, q) for q in candidates]
    losses = [task.loss(key_choice, q) for q in candidates]
    values = np.array([loss.value for loss in losses])
    best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    if values[0] - values[best] <= losses[best].stderr < np.inf:
        best = 0  # what its own error does not tell from the start cannot win
    # The record of a descent is kept where greedy merging turns out to be the best, too.
    record = fits[max(best - 1, 0)]
    return record._replace(gmm=drop_absent(candidates[best]), loss=losses[best], start=losses[0])


def _found(key_search, key_descent, task, starts, progress):
    """Where descents from what a search finds end."""
    found, blocks = search.search(key_search, task.p, starts, task.num_restarts, progress)
    if task.divergence is kl_divergence:
        # On the line and in the plane that is so far off that the best may not be the first, and
        # steps are cheap.
        found = found if task.p.dim <= 2 else found[:1]
        fits = [descent.on_points(q, blocks, task.num_steps) for q in found]
        # On the line the points are nearly exact, and estimates tell less. Losses end in NaN.
        return [min(fits, key=lambda fit: np.fmin.reduce(fit.losses))] if task.p.dim == 1 else fits
    target, starts = task.target(), [parts.to_jax(q, task.dtype) for q in found]
    return [descent.in_any(key_descent, target, q, task.divergence, task.num_steps) for q in starts]


def _with_moments_of(p, q):
    """The affine image of `q` that has the mean and the covariance of `p`."""
    return parts.out_of(parts.frame(p), parts.into(parts.frame(q), q))
