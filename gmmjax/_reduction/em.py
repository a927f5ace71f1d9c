"""The nearest mixture of fewer components, as the fixed point of forward KL on points of p."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM
from gmmjax._populations import fixed_point
from gmmjax._populations.fixed_point import Floor, Stop
from gmmjax._populations.moments import Cloud
from gmmjax._sampling import allocation
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol

# Iterations end where one brings less than this part of the loss: what is left is for the descent.
MIN_GAIN = 1e-4


class Run(NamedTuple):
    """A mixture on its way to the fixed point, and KL on the cloud."""

    gmm: GMM
    loss: jax.Array


@jax.jit(static_argnums=(2, 3))
def cloud(key, p: GMM, num_blocks: int, num_points: int) -> Cloud:
    """Scrambled Sobol points of a checked mixture, allotted to its components in each block."""
    dtype, dim = p.means.dtype, p.dim
    z, weight = sobol(key, jnp.arange(num_blocks), 0, num_points, dim, dtype)
    owned = allocation.allocate(p, num_points)
    middles = (jnp.arange(num_points, dtype=dtype) + 0.5) / num_points
    chosen = allocation.choose(owned, middles)
    rate = owned.rates(p.logits)
    weight = weight * allocation.pick(rate[None], chosen)
    weight = weight / jnp.sum(weight, axis=1, keepdims=True)
    prepared = density.prepare(p).density

    def block(z):
        x = allocation.place(chosen, p.means, p.scale, z[:, :, None])
        return x, density.evaluate(prepared, x)

    x, log_prob = jax.lax.map(block, jnp.moveaxis(z, 1, 0))
    return Cloud(x, weight, log_prob)


@jax.jit
def run_em(starts: GMM, c: Cloud, floor, num_steps, num_blocks) -> Run:
    """Iterate a batch of mixtures on the first blocks, each until its loss falls no more.

    `floor` is added to the variances of all components.
    """
    largest = jnp.max(jnp.abs(c.log_prob[0]))
    rounding = 8 * jnp.finfo(c.x.dtype).eps * largest

    def run(start):
        stop = Stop(MIN_GAIN, rounding)
        found = fixed_point.run(start, c, Floor(floor, 0.0), stop, num_steps, num_blocks)
        return Run(found.gmm, found.loss)

    return jax.vmap(run)(starts)


def loss(g: GMM, c: Cloud) -> Estimate:
    """KL(p ‖ g) on a cloud of p."""
    prepared = density.prepare(g).density

    @jax.checkpoint
    def block(part):
        x, weight, log_prob = part
        return jnp.vdot(weight, log_prob - density.evaluate(prepared, x))

    means = jax.lax.map(block, tuple(c))
    stderr = jnp.std(means, ddof=1) / len(means) ** 0.5
    return Estimate(jnp.mean(means), jax.lax.stop_gradient(stderr))


@jax.jit
def excess(g: GMM, c: Cloud) -> jax.Array:
    """What each point of the first block adds to KL(p ‖ g), `(n,)`: positive where p is missed."""
    log_prob = density.evaluate(density.prepare(g).density, c.x[0])
    return c.weight[0] * (c.log_prob[0] - log_prob)
