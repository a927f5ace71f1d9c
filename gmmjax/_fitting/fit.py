"""Fitting a mixture to anything that a loss can say, by gradient."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from gmmjax._fitting import checkpoints, descent
from gmmjax._fitting.descent import Method, Problem, Record, State
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import check_count, check_function, keyed

_EVERYTHING = GMM._make((True, True, True))
_ADAM = optax.adam(0.02)


class FitResult(NamedTuple):
    """What a fit found, and how it went there; a tree of arrays, also under `jit` and `vmap`.

    Attributes:
      gmm: the fitted mixture.
      loss: an `Estimate` of its loss with a key that no step has seen; NaN where nothing finite was
        found.
      start: the loss of the start with the same key, so that the two can be compared.
      num_steps: how many steps were taken.
      num_skipped: how many were not, because loss, gradient or update were not finite.
      converged: whether the stopping rule ended the fit.
      losses: `(num_steps,)` loss of each step, NaN after a stop.
      stderrs: `(num_steps,)` its standard error; 0 where the loss states none.
      gradient_norms: `(num_steps,)` norm of the gradient in unconstrained parameters.
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


@keyed
def fit(
    key,
    loss: Callable,
    init: GMM,
    *,
    optimizer: optax.GradientTransformation = _ADAM,
    num_steps: int = 1000,
    args: tuple = (),
    trainable: GMM = _EVERYTHING,
    common_random_numbers: bool = False,
    patience: int | None = 50,
    progress: bool = False,
    checkpoint=None,
    interval: int = 50,
) -> FitResult:
    r"""Minimise a loss over mixtures, :math:`\min_q \mathrm{loss}(q)`, by gradient steps in
    unconstrained parameters.

    No step leaves the set of mixtures (see `gmmjax.unconstrain`), and absent components stay as
    they are. What is returned is a local minimum at best. It is the last iterate, an average over
    the last of them (whose noise is smaller) or, where neither is better, the start: the three are
    compared with one key that no step has seen, so that the result is not the luckiest of many
    noisy losses.

    With `progress` or `checkpoint` a Python loop runs compiled segments, and Ctrl-C returns the
    best so far with a warning. Otherwise the fit is one scan, which `jit` and `vmap` take.

    Args:
      key: a JAX key.
      loss: maps `(key, gmm, *args)` to an `Estimate` or to a scalar. Pass the same function object
        again to avoid recompilation. To match p: `lambda key, q, p: gmmjax.kl_divergence(key, p,
        q)` with `args=(p,)`; to match points `x` (maximum likelihood): `lambda key, q:
        -jnp.mean(gmmjax.log_prob(q, x))`; to match an unnormalised density: `gmmjax.kl_to_density`.
      init: the start; see `gmmjax.greedy_start`, `gmmjax.kmeans_start`, `gmmjax.moment_start`,
        `gmmjax.random_start`.
      optimizer: any optax transformation, schedules and all. `optax.lbfgs` and others that search
        along a line need `common_random_numbers=True` and a loss with true derivatives
        (`stick_the_landing=False`).
      num_steps: how many steps at most.
      args: further arguments of `loss`; their values may change without recompilation.
      trainable: a `GMM` of booleans, one per leaf or arrays that broadcast against the leaves: what
        may move. `GMM(True, False, False)` fits the weights alone; the rest keeps its bits.
      common_random_numbers: one key for all steps instead of a fresh one for each.
      patience: over how many steps progress is judged. The fit stops when the gradient, averaged
        over them, is no larger than its own standard error, and the loss has not fallen by more
        than its error since those before (with common random numbers: when it has not fallen by
        more than a hundredth of it). None takes all steps.
      progress: show a bar with the loss and its error; needs `pip install gmmjax[progress]`.
      checkpoint: a path. The state is written there after each segment, atomically, as a plain .npz
        file; if the file exists, the fit goes on from it to the same result.
      interval: steps per segment.

    Returns:
      A `FitResult`; its `loss` is in the units of `loss`, nats for a divergence of this package.

    Raises:
      TypeError: `key` is not a key, `init` or `trainable` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree; a count is below 1; `loss` is not scalar; `progress` or
        `checkpoint` under `jit` or `vmap`; `checkpoint` is not the state of this fit.

    Reference:
      Shamir and Zhang (2013), "Stochastic gradient descent for non-smooth optimization", section 4
      (the average).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-2.0], [2.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [0.5]]), jnp.ones(2))
      >>> loss = lambda key, q, p: gmmjax.kl_divergence(key, p, q, num_samples=1024)
      >>> result = gmmjax.fit(jax.random.key(0), loss, q, args=(p,), num_steps=500)
      >>> print(f"{result.start.value:.1f}", bool(result.loss.value < 1e-3))
      0.8 True
    """
    check_function("loss", loss)
    num_steps, interval = check_count("num_steps", num_steps), check_count("interval", interval)
    patience = None if patience is None else check_count("patience", patience)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer: expected one of optax, such as optax.adam(0.02), got {optimizer!r}"
        )
    if not isinstance(trainable, GMM):
        raise TypeError(
            f"trainable: expected a gmmjax.GMM of booleans, got {type(trainable).__name__}"
        )
    method = Method(loss, optimizer, num_steps, patience, bool(common_random_numbers))
    init = as_float("init", init)
    problem = Problem(key, init, descent.movable(init, trainable), tuple(args))
    if not progress and checkpoint is None:
        return _run(method, problem)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(problem)):
        raise ValueError(
            "progress, checkpoint: are for concrete fits, not for those under jit or vmap"
        )
    step = lambda state, start: _advance(method, problem, state, start, interval)
    state, records = checkpoints.run(
        step, _begin(method, problem), problem, num_steps, interval, progress, checkpoint
    )
    return _finish(method, problem, state, Record(*map(jnp.asarray, records)))


@jax.jit(static_argnums=0)
def _run(method, problem):
    state = descent.begin(method, problem)
    state, records = descent.advance(method, problem, state, 0, method.num_steps)
    return _finish(method, problem, state, records)


_begin = jax.jit(descent.begin, static_argnums=0)
_advance = jax.jit(descent.advance, static_argnums=(0, 4))


@functools.partial(jax.jit, static_argnums=0)
def _finish(method: Method, problem: Problem, state: State, records: Record) -> FitResult:
    """Compare what the descent found with its start, all with one key that no step has used."""
    key = jax.random.fold_in(problem.key, method.num_steps)
    start = descent.begin(method, problem).free
    candidates = jax.tree.map(lambda *leaves: jnp.stack(leaves), start, state.good, state.average)
    losses: Estimate = jax.lax.map(
        lambda free: descent.evaluate(method, problem, key, free), candidates
    )
    # the start, where none is
    best = jnp.argmin(jnp.where(jnp.isfinite(losses.value), losses.value, jnp.inf))
    pick = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)
    g = descent.assemble(problem, pick(candidates, best))
    g = jax.tree.map(lambda a, b: jnp.where(best == 0, a, b), problem.init, g)
    return FitResult(
        g,
        pick(losses, best),
        pick(losses, 0),
        state.num_steps,
        state.num_skipped,
        state.stopped,
        *records,
    )
