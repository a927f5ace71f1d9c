"""The end of a reduction: gradients lower a divergence from p, from where a search ended."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from gmmjax._estimates.kl import kl_divergence
from gmmjax._fitting.fit import FitResult, fit
from gmmjax._mixture.gmm import GMM
from gmmjax._reduction import em
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import takes_key


def descend(
    key, p: GMM, found: list[GMM], cloud: em.Cloud, divergence: Callable, num_steps: int
) -> list[FitResult]:
    """Descents in a divergence from each mixture; in forward KL on the same points.

    Where components overlap the fixed point is far off when its iteration stalls.
    """
    if divergence is kl_divergence:
        # On the line and in the plane that is so far off that the best may not be the first, and
        # steps are cheap.
        found = found if p.dim <= 2 else found[:1]
        return [_descend(key, q, _on_cloud, cloud, num_steps) for q in found]
    return [_descend(key, q, _OfPair(divergence), p, num_steps) for q in found]


def kept(q: GMM, num_steps: int) -> FitResult:
    """A mixture as it is, like a descent of no steps."""
    nan = jnp.full(num_steps, jnp.nan, q.means.dtype)
    unknown = Estimate(nan[0], nan[0])
    return FitResult(
        gmm=q,
        loss=unknown,
        start=unknown,
        num_steps=jnp.asarray(0),
        num_skipped=jnp.asarray(0),
        converged=jnp.asarray(False),
        losses=nan,
        stderrs=nan,
        gradient_norms=nan,
    )


def evaluate(divergence: Callable, key, p: GMM, q: GMM) -> Estimate:
    """The divergence as an estimate, whether or not it takes a key."""
    result = divergence(key, p, q) if takes_key(divergence) else divergence(p, q)
    return result if isinstance(result, Estimate) else Estimate(result, jnp.zeros_like(result))


def _on_cloud(key, q, cloud):
    return em.loss(q, cloud)


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
