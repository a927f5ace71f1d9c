"""The end of a reduction: gradients lower a divergence from p, from where a search ended."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gmmjax._fitting import lbfgs, scoring
from gmmjax._fitting.fit import FitResult, fit
from gmmjax._mixture.gmm import GMM
from gmmjax._reduction import cloud, em
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import takes_key

PATIENCE = 10  # steps, after each of which progress is judged
MIN_PROGRESS = 0.01  # of the standard error: less is none
MIN_GAIN = 1e-3  # of the loss, where its error is next to nothing: less is no progress
SHORT_PATIENCE, SHORT_GAIN = 5, 1e-2  # of a trial: its order among others is settled
LEAST_WEIGHT = 1e-6  # for the sake of units; no component that matters is lighter


def on_points(q: GMM, blocks: Sequence[cloud.Block], num_steps: int) -> FitResult:
    """Lower forward KL on the points of a search, of a mixture of NumPy arrays.

    Where components overlap the fixed point is far off when its iteration stalls.
    """
    losses, stderrs, norms = np.full((3, num_steps), np.nan)
    converged = False
    with np.errstate(all="ignore"):  # what is not finite is no step
        places = by_scoring(q, blocks) if q.dim == 1 else _by_lbfgs(q, blocks)
        for step, place in enumerate(places):
            if step == num_steps:
                break
            losses[step], stderrs[step] = place.value, place.more
            norms[step] = np.linalg.norm(place.gradient)
            if step > 0 and step % PATIENCE == 0:
                progress = losses[step - PATIENCE] - losses[step]
                if progress <= max(MIN_PROGRESS * stderrs[step], MIN_GAIN * losses[step]):
                    converged = True
                    break
        else:
            converged = True  # no step is left that lowers the loss
    return _result(place.x, step, converged, losses, stderrs, norms)


def settled(
    q: GMM, blocks: Sequence[cloud.Block], least_variance: float, num_steps: int
) -> tuple[GMM, float]:
    """About where scoring ends, and the loss there: one trial of a search on the line."""
    losses = []
    with np.errstate(all="ignore"):
        for place in by_scoring(q, blocks, least_variance):
            losses.append(place.value)
            is_long = len(losses) > SHORT_PATIENCE
            if is_long and losses[-1 - SHORT_PATIENCE] - losses[-1] < SHORT_GAIN * losses[-1]:
                break
            if len(losses) > num_steps:
                break
    return place.x, place.value


def _by_lbfgs(q, blocks):
    for place in lbfgs.descend(lambda x: _loss(q, x, blocks), np.zeros(_num_parameters(q))):
        yield place._replace(x=_moved(q, place.x))


def by_scoring(
    q: GMM, blocks: Sequence[cloud.Block], least_variance: float = 0.0
) -> Iterator[lbfgs.Place]:
    """Mixtures on the line on the way down: there a step is cheap, and does for dozens of others.

    Near p the curvature of KL is the Fisher matrix, the second moments of its scores.
    """

    def value(g):
        if np.min(g.scale**2) < least_variance:
            return np.nan, np.nan
        losses = [(block.log_prob - cloud.log_prob(g, block)) @ block.weight for block in blocks]
        spread = np.std(losses, ddof=min(1, len(losses) - 1))
        return np.mean(losses), spread / len(losses) ** 0.5

    def slopes(g):
        gradient, curvature = 0.0, 0.0
        for block in blocks:
            scores = cloud.scores(g, block)
            weighted = scores * (block.weight / len(blocks))
            gradient -= weighted.sum(axis=1)
            curvature += weighted @ scores.T
        return gradient, curvature

    return scoring.descend(value, slopes, _stepped, q)


def _stepped(g, step):
    """A mixture on the line after a step in the order of its scores."""
    logits, means, scale = step.reshape(-1, 3).T
    means = g.means + g.scale.reshape(-1, 1) * means[:, None]
    return GMM(g.logits + logits, means, g.scale * np.exp(scale).reshape(g.scale.shape))


def _moved(start, x):
    """The mixture at free parameters, which are 0 at the start.

    They are steps in deviations of each component, and of its logarithms, in units of what so many
    points as its weight says would tell of them: the loss is about as curved along all of them.
    """
    root = _roots(start)
    logits, means, scale = _split(start, x)
    logits = start.logits + logits / root
    means, scale = means / root[:, None], scale / _units(root, scale)
    if cloud.is_full(start):
        factor = em.on_diagonals(np.exp, start._replace(scale=scale)).scale
        steps = (start.scale @ means[..., None])[..., 0]
        return GMM(logits, start.means + steps, start.scale @ factor)
    steps = start.scale.reshape(len(means), -1) * means
    return GMM(logits, start.means + steps, start.scale * np.exp(scale))


def _loss(start, x, blocks):
    """KL on points, its gradient in free parameters, and its standard error."""
    g, root = _moved(start, x), _roots(start)
    sums = cloud.expect(g, blocks)
    mass, mean, spread = cloud.central(g, sums.rows)
    weight = np.exp(g.logits - np.logaddexp.reduce(g.logits))
    slopes = _slopes_of_factors if cloud.is_full(g) else _slopes_of_deviations
    by_means, by_scale = slopes(start, g, mean - g.means, spread)
    by_means *= -(mass / root)[:, None]
    by_scale *= mass.reshape(-1, *[1] * (by_scale.ndim - 1)) / _units(root, by_scale)
    gradient = np.concatenate([(weight - mass) / root, by_means.ravel(), by_scale.ravel()])
    losses = sums.losses
    return losses.mean(), gradient, losses.std(ddof=1) / len(losses) ** 0.5


def _slopes_of_factors(start, g, gap, spread):
    """By how much −log N changes with each component's means and factor, where points of a mean and
    spread are its own.
    """
    inverse = cloud.inverse_scale(g)
    white = (inverse @ gap[..., None])[..., 0]
    square = inverse @ spread @ inverse.mT + white[..., :, None] * white[..., None, :]
    back = start.scale.mT @ inverse.mT  # the transposed inverse of what the factor is times
    slope = back @ (np.eye(g.dim) - square)
    on_diagonal = np.eye(g.dim) / np.diagonal(back, axis1=1, axis2=2)[:, None, :]
    return (back @ white[..., None])[..., 0], np.tril(slope, -1) + slope * on_diagonal


def _slopes_of_deviations(start, g, gap, spread):
    """The same where components are diagonal or spherical."""
    inverse = cloud.inverse_scale(g)
    white = inverse * gap
    slope = 1 - inverse**2 * spread - white**2
    by_scale = slope.reshape(*start.scale.shape, -1).sum(axis=-1)
    return start.scale.reshape(len(white), -1) * inverse * white, by_scale


def _roots(start):
    weight = np.exp(start.logits - np.logaddexp.reduce(start.logits))
    return np.sqrt(np.maximum(weight, LEAST_WEIGHT))


def _units(root, scale):
    return root.reshape(-1, *[1] * (scale.ndim - 1)) * 1.4


def _num_parameters(q):
    return sum(leaf.size for leaf in q)


def _split(q, x):
    ends = np.cumsum([leaf.size for leaf in q])[:-1]
    return [part.reshape(leaf.shape) for part, leaf in zip(np.split(x, ends), q, strict=True)]


def _result(found, num_taken, converged, losses, stderrs, norms):
    unknown = Estimate(_array(np.nan), _array(np.nan))
    return FitResult(
        gmm=found,
        loss=unknown,
        start=unknown,
        num_steps=_array(num_taken),
        num_skipped=_array(0),
        converged=_array(converged),
        losses=_array(losses),
        stderrs=_array(stderrs),
        gradient_norms=_array(norms),
    )


def _array(values):
    """By way of NumPy, which takes no program for a number."""
    return jnp.asarray(np.asarray(values))


def kept(q: GMM, num_steps: int) -> FitResult:
    """A mixture as it is, like a descent of no steps."""
    nothing = np.full(num_steps, np.nan)
    return _result(q, 0, False, nothing, nothing, nothing)


def in_any(key, p: GMM, q: GMM, divergence: Callable, num_steps: int) -> FitResult:
    """Lower another divergence by compiled steps, with common random numbers."""
    return _descend(key, q, _OfPair(divergence), p, num_steps)


def evaluate(divergence: Callable, key, p: GMM, q: GMM) -> Estimate:
    """The divergence as an estimate, whether or not it takes a key."""
    result = divergence(key, p, q) if takes_key(divergence) else divergence(p, q)
    return result if isinstance(result, Estimate) else Estimate(result, jnp.zeros_like(result))


class _OfPair(NamedTuple):
    """A divergence as a loss in its second argument; equal, and so compiled once, for one
    divergence.
    """

    divergence: Callable

    def __call__(self, key, q, p):
        return evaluate(self.divergence, key, p, q)


@jax.jit(static_argnums=(2, 4))
def _descend(key, start, loss, target, num_steps):
    # Not batched: under vmap steps after a stop would be computed all the same.
    return fit(
        key,
        loss,
        start,
        optimizer=optax.lbfgs(),
        num_steps=num_steps,
        common_random_numbers=True,
        hold_weights=None,  # components are in place
        patience=10,
        args=(target,),
    )
