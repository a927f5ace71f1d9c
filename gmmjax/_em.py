"""The fixed point of forward KL: each component takes the moments of what it is responsible for."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax import _density, _linalg, _points, _sample
from gmmjax._gmm import GMM
from gmmjax._unconstrained import Unconstrained, constrain, unconstrain

MOST_STEPS = 200


class Cloud(NamedTuple):
    """Points `(blocks, D, n)` and weights `(blocks, n)` that stand for a mixture: Σ weight·f(x) estimates E_p[f]."""

    x: jax.Array
    weight: jax.Array
    entropy: jax.Array  # −Σ weight·log p(x), so that losses are KL


class Run(NamedTuple):
    """A mixture on its way to the fixed point, and KL on the cloud: of each iteration, and the last."""

    gmm: GMM
    losses: jax.Array
    loss: jax.Array
    num_steps: jax.Array
    converged: jax.Array


@functools.partial(jax.jit, static_argnums=2)
def cloud(key, p: GMM, num_points: int) -> Cloud:
    """Sobol points of a checked mixture, allotted to its components without chance; `num_points` a power of two."""
    dtype, dim = p.means.dtype, p.dim
    z, weight = _points.sobol(key, jnp.zeros(1, int), 0, num_points, dim, dtype)
    allocation = _sample.allocate(p, num_points)
    chosen = _sample.choose(allocation, (jnp.arange(num_points, dtype=dtype) + 0.5) / num_points)
    share = allocation.upper - allocation.lower
    rate = jax.nn.softmax(p.logits) / (share + (share == 0))
    weight = weight.reshape(-1) * jnp.matmul(rate, chosen, precision=_linalg.HIGHEST)
    weight = weight / jnp.sum(weight)
    x = _linalg.place(chosen, p.means, p.scale, z.reshape(dim, -1))
    block = min(num_points, _sample.block_size(p.num_components, dim))
    x, weight = jnp.moveaxis(x.reshape(dim, -1, block), 1, 0), weight.reshape(-1, block)
    density = _density.precision(p)
    terms = jax.lax.map(lambda part: jnp.vdot(part[1], _density.evaluate(density, part[0])), (x, weight))
    return Cloud(x, weight, -jnp.sum(terms))


@jax.jit
def climb(starts: GMM, c: Cloud, floor, num_steps) -> Run:
    """Iterate a batch of mixtures until the loss of each falls by less than a ten-thousandth in a step."""

    def one(g):
        tolerance = 8 * jnp.finfo(floor.dtype).eps * jnp.abs(c.entropy)

        def go(state):
            index, _, moving, *_ = state
            return (index < jnp.minimum(num_steps, MOST_STEPS)) & moving

        def iterate(state):
            index, g, _, before, losses = state
            g, loss = _leap(g, c, floor)
            moving = ~(before - loss < 1e-4 * jnp.maximum(loss, 0.0) + tolerance)
            return index + 1, g, moving, loss, losses.at[index].set(loss)

        losses = jnp.full(MOST_STEPS, jnp.nan, floor.dtype)
        state = (0, g, jnp.ones((), bool), jnp.full((), jnp.inf, floor.dtype), losses)
        index, g, moving, loss, losses = jax.lax.while_loop(go, iterate, state)
        return Run(g, losses, loss, index, ~moving)

    return jax.vmap(one)(starts)


def _leap(g, c, floor):
    """Two steps, a leap along the curve through them, and a third: kept only where the loss is no larger."""
    # Squared extrapolation: Varadhan and Roland (2008), "Simple and globally convergent methods", scheme S3.
    first, _ = _step(g, c, floor)
    second, loss = _step(first, c, floor)
    a, b, d = unconstrain(g), unconstrain(first), unconstrain(second)
    present = lambda x: jnp.where(jnp.isfinite(x), x, 0.0)  # −inf logits stay where they are
    r = jax.tree.map(lambda a, b: present(b - a), a, b)
    v = jax.tree.map(lambda b, d, r: present(d - b) - r, b, d, r)
    norm = lambda tree: jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in tree))
    length = jnp.maximum(norm(r) / jnp.maximum(norm(v), 1e-12), 1.0)
    far = Unconstrained(*(a + 2 * length * r + length**2 * v for a, r, v in zip(a, r, v, strict=True)))
    leapt, far_loss = _step(constrain(far), c, floor)
    better = far_loss <= loss
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), leapt, second), jnp.where(better, far_loss, loss)


def _step(g, c, floor):
    """Responsibilities, then weighted moments in the structure of `g`; and the loss of `g` itself."""
    density = _density.precision(g)
    full = g.scale.ndim > g.means.ndim

    def block(total, part):
        x, weight = part
        table = _density.evaluate_components(density, x)
        log_prob = jax.nn.logsumexp(table, axis=0)
        share = jnp.exp(table - log_prob[None]) * weight[None]
        centred = x[None] - g.means[:, :, None]
        spread = centred * share[:, None, :]
        second = jnp.matmul(spread, centred.mT, precision=_linalg.HIGHEST) if full else jnp.sum(spread * centred, 2)
        new = (jnp.vdot(weight, log_prob), jnp.sum(share, axis=1), jnp.sum(spread, axis=2), second)
        return jax.tree.map(jnp.add, total, new), None

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(
        lambda: (floor, g.logits, g.means, g.means[:, :, None] * g.means[:, None, :] if full else g.means)
    ))  # fmt: skip
    (likelihood, mass, first, second), _ = jax.lax.scan(block, zeros, (c.x, c.weight))
    alive = mass > 1e-8
    safe = jnp.where(alive, mass, 1.0)
    shift = first / safe[:, None]
    if full:
        covariance = second / safe[:, None, None] - shift[:, :, None] * shift[:, None, :]
        scale = _linalg.cholesky(covariance + floor * jnp.eye(g.dim, dtype=floor.dtype)[None])
    else:
        variance = second / safe[:, None] - shift**2 + floor
        scale = jnp.sqrt(variance if g.scale.ndim == g.means.ndim else jnp.mean(variance, axis=1))
    keep = lambda new, old: jnp.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    logits = jnp.where(alive, jnp.log(safe), -jnp.inf)
    return GMM(logits, keep(g.means + shift, g.means), keep(scale, g.scale)), -c.entropy - likelihood
