"""Fitting a mixture to anything that a loss can say, by gradient."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gmmjax._fitting import checks, descent
from gmmjax._fitting.descent import Method, Problem, Record, State
from gmmjax._fitting.natural import natural_gradient
from gmmjax._fitting.result import FitResult
from gmmjax._fitting.segments import compiled_fit
from gmmjax._fitting.units import resolved, to_units
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, as_float, index
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import check_count, keyed, warn

_EVERYTHING = GMM._make((True, True, True))
_NATURAL = natural_gradient()


@keyed
def fit(
    key,
    loss: Callable,
    init: GMM,
    *,
    optimizer: optax.GradientTransformation = _NATURAL,
    num_steps: int = 1000,
    args: tuple = (),
    trainable: GMM = _EVERYTHING,
    common_random_numbers: bool = False,
    hold_weights: int | None = 20,
    patience: int | None = 50,
    progress: bool = False,
    checkpoint=None,
    interval: int = 50,
) -> FitResult:
    r"""Minimise a loss over mixtures, :math:`\min_q \mathrm{loss}(q)`, by steps that know no units.

    Parameters are `gmmjax.Unconstrained`: logits, means as steps from where they began, and rows of
    factors with log-diagonals, both in standard deviations of the components of `init` along each
    coordinate. A learning rate is thus a fraction of a standard deviation or of a log-weight,
    whatever the units of x and wherever its origin. No step leaves the set of mixtures, and absent
    components stay as they are.

    What is returned is a local minimum at best. It is the last iterate, an average over the last of
    them (whose noise is smaller) or, where neither is better, the start: the three are compared
    with one key that no step has seen, so that the result is not the luckiest of many noisy losses.
    A loss that is not finite, or that its own error does not tell from the start's, cannot win.

    With `progress` or `checkpoint` a Python loop runs compiled segments, and Ctrl-C returns the
    best so far with a warning. Otherwise the fit is one scan, which `jit` and `vmap` take.

    Args:
      key: a JAX key.
      loss: maps `(key, gmm, *args)` to an `Estimate` or to a scalar. Pass the same function object
        again to avoid recompilation. To match p: `lambda key, q, p: gmmjax.kl_divergence(key, p,
        q)` with `args=(p,)`, or with `(key, q, p)` for the reverse divergence, and never the bare
        function, whose order of mixtures is another one; to match points `x` (maximum likelihood):
        `lambda key, q: -jnp.mean(gmmjax.log_prob(q, x))`; to match an unnormalised density:
        `gmmjax.kl_to_density`.
      init: the start; see `gmmjax.greedy_start`, `gmmjax.kmeans_start`, `gmmjax.moment_start`,
        `gmmjax.random_start`.
      optimizer: any optax transformation, schedules and all; by default
        `gmmjax.natural_gradient()`. `optax.lbfgs` and others that search along a line need
        `common_random_numbers=True` and a loss with true derivatives (`stick_the_landing=False`).
      num_steps: how many steps at most.
      args: further arguments of `loss`; their values may change without recompilation.
      trainable: a `GMM` of booleans, one per leaf or arrays that broadcast against the leaves: what
        may move. `GMM(True, False, False)` fits the weights alone; the rest keeps its bits.
      common_random_numbers: one key for all steps instead of a fresh one for each.
      hold_weights: for how many steps weights stay as they are where components move: those that
        begin far from their place would lose them first. None lets them go at once.
      patience: over how many steps progress is judged. The fit stops when the gradient, averaged
        over them, is no larger than its own standard error, and the loss has not fallen by more
        than its error since those before (with common random numbers: when it has not fallen by
        more than a hundredth of it). None takes all steps.
      progress: show a bar with the loss and its error; needs `pip install gmmjax[progress]`.
      checkpoint: a path. The state is written there after each segment, atomically, as a plain .npz
        file; if the file exists, the fit goes on from it to the same result.
      interval: steps per segment.

    Returns:
      A `FitResult`; its `loss` is in the units of `loss`, nats for a divergence of this package. A
      step whose loss or gradient is not finite, or whose error explodes, is taken back by halves
      and counted in `num_skipped`; outside `jit` and `vmap` a warning says if a tenth of them were,
      and if the fit converged where it began.

    Raises:
      TypeError: `key` is not a key, `init` or `trainable` is not a `GMM`, a count is not an int,
        `args` is not a tuple, or `loss` is a divergence of this package that is not symmetric.
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
    checks.check_loss(loss)
    num_steps = check_count("num_steps", num_steps)
    interval = check_count("interval", interval)
    hold_weights = 0 if hold_weights is None else check_count("hold_weights", hold_weights)
    patience = None if patience is None else check_count("patience", patience)
    checks.check_optimizer(optimizer)
    method = Method(loss, optimizer, num_steps, patience, bool(common_random_numbers), hold_weights)
    init = as_float("init", init)
    checks.check_trainable(trainable, init)
    mask = descent.trainable_mask(init, trainable)
    problem = Problem(key, init, mask, checks.check_args(args))
    return _told(*_descend(method, problem, interval, progress, checkpoint))


def _finish(method: Method, problem: Problem, state: State, records: Record):
    """Compare what the descent found with its start, all with one key that no step has used.

    Returns the result, and whether the descent ended where the loss makes no sense.
    """
    key = jax.random.fold_in(problem.key, method.num_steps)

    def loss_fn(params):
        return descent.evaluate(method, problem, key, params)

    found = [to_units(problem.init), state.last_finite, state.average]
    candidates = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
    losses: Estimate = jax.lax.map(loss_fn, candidates)
    sound = descent.makes_sense(losses, index(losses, 0)) & jax.vmap(resolved)(candidates)
    best = _best(losses, sound)
    g = descent.assemble(problem, index(candidates, best))
    g = jax.tree.map(lambda a, b: jnp.where(best == 0, a, b), problem.init, g)
    result = FitResult(
        gmm=g,
        loss=index(losses, best),
        start=index(losses, 0),
        num_steps=state.num_steps,
        num_skipped=state.num_skipped,
        converged=state.stopped,
        losses=records.loss,
        stderrs=records.stderr,
        gradient_norms=records.gradient_norm,
    )
    return result, ~jnp.all(sound)


_descend = compiled_fit("fit", descent.init_state, descent.run_steps, _finish)


def _best(losses: Estimate, sound: jax.Array) -> jax.Array:
    """The least of several losses, or the first, the start, where no other makes sense and is told
    from it, or from 0, by its own error.
    """
    start = index(losses, 0)
    # A single replicate states no error, here and at the start.
    unstated = jnp.isposinf(losses.stderr) & jnp.isposinf(start.stderr)
    error = jnp.where(unstated, 0.0, losses.stderr)
    told = (error < jnp.abs(losses.value)) | (3 * error < start.value - losses.value)
    eligible = sound & (told | ~jnp.isfinite(start.value))
    eligible = eligible.at[0].set(jnp.isfinite(start.value))
    return jnp.argmin(jnp.where(eligible, losses.value, jnp.inf))


def _told(result: FitResult, senseless) -> FitResult:
    """The result, after a word about steps that were skipped or led nowhere, where values are
    concrete.
    """
    if is_traced(result):
        return result
    skipped, taken = int(result.num_skipped), int(result.num_steps)
    if 10 * skipped > skipped + taken or senseless:
        warn(
            f"fit: {skipped} of {skipped + taken} steps were skipped, because the loss, its error "
            "or its gradient was not finite or exploded; a smaller learning rate may help"
        )
    elif result.converged and _is_where_it_began(result.loss, result.start):
        warn(
            f"fit: converged where it began, at a loss of {float(result.loss.value):.4g}; the "
            "start is a minimum, or so far away that the loss is flat there: try another one, or KL"
        )
    return result


def _is_where_it_began(loss: Estimate, start: Estimate) -> bool:
    """Whether a loss that is not 0 is that of the start, by their errors."""
    fallen = float(start.value - loss.value)
    errors = [0.0 if math.isinf(e.stderr) else float(e.stderr) for e in (loss, start)]
    return fallen <= 2 * math.hypot(*errors) < abs(float(loss.value))
