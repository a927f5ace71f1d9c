"""The fixed point of forward KL: each component takes the moments of what it is responsible for."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import density, linalg, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.unconstrained import Unconstrained, constrain, unconstrain
from gmmjax._sampling import allocation
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol


class Cloud(NamedTuple):
    """Blocks of points `(B, D, n)` and weights `(B, n)`, each of which stands for p: Σ weight·f(x)
    estimates E_p[f].
    """

    x: jax.Array
    weight: jax.Array
    log_prob: jax.Array  # (B, n) of p, so that losses are KL


class Run(NamedTuple):
    """A mixture on its way to the fixed point, and KL on the cloud."""

    gmm: GMM
    loss: jax.Array


@jax.jit(static_argnums=(2, 3))
def cloud(key, p: GMM, num_blocks: int, num_points: int) -> Cloud:
    """Scrambled Sobol points of a checked mixture, allotted to its components without chance in
    each block.
    """
    dtype, dim = p.means.dtype, p.dim
    z, weight = sobol(key, jnp.arange(num_blocks), 0, num_points, dim, dtype)
    owned = allocation.allocate(p, num_points)
    chosen = allocation.choose(owned, (jnp.arange(num_points, dtype=dtype) + 0.5) / num_points)
    share = owned.upper - owned.lower
    rate = jax.nn.softmax(p.logits) / (share + (share == 0))
    weight = weight * linalg.matmul(rate, chosen)[None]
    weight = weight / jnp.sum(weight, axis=1, keepdims=True)
    prepared = density.prepare(p).density

    def block(z):
        x = allocation.place(chosen, p.means, p.scale, z[:, :, None])
        return x, density.evaluate(prepared, x)

    x, log_prob = jax.lax.map(block, jnp.moveaxis(z, 1, 0))
    return Cloud(x, weight, log_prob)


@jax.jit
def climb(starts: GMM, c: Cloud, floor, num_steps, num_blocks) -> Run:
    """Iterate a batch of mixtures on the first blocks, until the loss of each falls by less than
    10⁻⁴ of it.
    """

    def one(g):
        tolerance = 8 * jnp.finfo(floor.dtype).eps * jnp.max(jnp.abs(c.log_prob[0]))

        def go(state):
            index, _, moving, _ = state
            return (index < num_steps) & moving

        def iterate(state):
            index, g, _, before = state
            g, loss = _leap(g, c, floor, num_blocks)
            moving = ~(before - loss < 1e-4 * jnp.maximum(loss, 0.0) + tolerance)
            return index + 1, g, moving, loss

        state = (jnp.zeros((), int), g, jnp.ones((), bool), jnp.full((), jnp.inf, floor.dtype))
        _, g, _, loss = jax.lax.while_loop(go, iterate, state)
        return Run(g, loss)

    return jax.vmap(one)(starts)


def loss(g: GMM, c: Cloud) -> Estimate:
    """KL(p ‖ g) on a cloud of p."""
    prepared = density.prepare(g).density

    @jax.checkpoint
    def block(part):
        x, weight, log_prob = part
        return jnp.vdot(weight, log_prob - density.evaluate(prepared, x))

    means = jax.lax.map(block, tuple(c))
    return Estimate(
        jnp.mean(means), jax.lax.stop_gradient(jnp.std(means, ddof=1)) / len(means) ** 0.5
    )


@jax.jit
def excess(g: GMM, c: Cloud):
    """What each point of the first block adds to KL(p ‖ g), `(n,)`: positive where p is missed."""
    return c.weight[0] * (c.log_prob[0] - density.evaluate(density.prepare(g).density, c.x[0]))


def _leap(g, c, floor, num_blocks):
    """Two steps, a leap along the curve through them, and a third: kept only where the loss is no
    larger.
    """
    # Squared extrapolation: Varadhan and Roland (2008), "Simple and globally convergent methods",
    # scheme S3.
    first, _ = _step(g, c, floor, num_blocks)
    second, loss = _step(first, c, floor, num_blocks)
    a, b, d = unconstrain(g), unconstrain(first), unconstrain(second)
    present = lambda x: jnp.where(jnp.isfinite(x), x, 0.0)  # −inf logits stay where they are
    r = jax.tree.map(lambda a, b: present(b - a), a, b)
    v = jax.tree.map(lambda b, d, r: present(d - b) - r, b, d, r)
    norm = lambda tree: jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in tree))
    length = jnp.maximum(norm(r) / jnp.maximum(norm(v), 1e-12), 1.0)
    far = Unconstrained(
        *(a + 2 * length * r + length**2 * v for a, r, v in zip(a, r, v, strict=True))
    )
    leapt, far_loss = _step(constrain(far), c, floor, num_blocks)
    better = far_loss <= loss
    return jax.tree.map(lambda x, y: jnp.where(better, x, y), leapt, second), jnp.where(
        better, far_loss, loss
    )


def _step(g, c, floor, num_blocks):
    """Responsibilities, then weighted moments in the structure of `g`; and the loss of `g`
    itself.
    """
    prepared = density.prepare(g).density
    full = g.scale.ndim > g.means.ndim

    def block(index, total):
        x, weight = c.x[index], c.weight[index] / num_blocks
        table = density.component_table(prepared, density.squared_distances(prepared, x))
        peak = jnp.max(table, axis=0)
        # once for both the density and what each component has of it
        shape = jnp.exp(table - peak[None])
        mass = jnp.sum(shape, axis=0)
        loss = jnp.vdot(weight, c.log_prob[index] - peak - jnp.log(mass))
        return jax.tree.map(
            jnp.add, total, (loss, *_moments(shape * (weight / mass)[None], g.means, x, full))
        )

    like = (
        floor,
        g.logits,
        g.means,
        g.means[:, :, None] * g.means[:, None, :] if full else g.means,
    )
    mass: jax.Array
    loss, mass, first, second = jax.lax.fori_loop(
        0, num_blocks, block, jax.tree.map(jnp.zeros_like, like)
    )
    alive = mass > 1e-8
    safe = jnp.where(alive, mass, 1.0)
    shift = first / safe[:, None]
    if full:
        covariance = second / safe[:, None, None] - shift[:, :, None] * shift[:, None, :]
        scale = triangular.cholesky(covariance + floor * jnp.eye(g.dim, dtype=floor.dtype)[None])
    else:
        variance = second / safe[:, None] - shift**2 + floor
        scale = jnp.sqrt(variance if g.scale.ndim == g.means.ndim else jnp.mean(variance, axis=1))
    keep = lambda new, old: jnp.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    logits = jnp.where(alive, jnp.log(safe), -jnp.inf)
    return GMM(logits, keep(g.means + shift, g.means), keep(scale, g.scale)), loss


def _moments(share, means, x, full):
    """Of points `(D, n)` in proportion to `(K, n)`: sums, and first and second moments about the
    means.
    """
    product = functools.partial(jnp.matmul, precision=linalg.HIGHEST)
    if x.dtype == jnp.float64:
        # About 0, where p has its mean, and then about the means: one product, several times
        # faster. Of 16 digits it costs those by which a component is narrower than p, squared; of
        # the 7 of float32 nothing would be left.
        squares = x[:, None] * x[None] if full else x**2
        sums = product(
            share, jnp.concatenate([jnp.ones_like(x[:1]), x, squares.reshape(-1, x.shape[1])]).T
        )
        mass, first, second = jnp.split(sums, [1, 1 + len(x)], axis=1)
        outer = lambda a, b: a[:, :, None] * b[:, None, :] if full else a * b
        crossed = outer(first, means) + outer(means, first) - outer(mass * means, means)
        return mass[:, 0], first - mass * means, second.reshape(crossed.shape) - crossed
    centred = x[None] - means[:, :, None]
    spread = centred * share[:, None, :]
    second = product(spread, centred.mT) if full else jnp.sum(spread * centred, axis=2)
    return jnp.sum(share, axis=1), jnp.sum(spread, axis=2), second
