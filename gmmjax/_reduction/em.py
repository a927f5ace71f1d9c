"""The fixed point of forward KL: each component takes the moments of what it is responsible for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import density, linalg, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.unconstrained import constrain, unconstrain
from gmmjax._sampling import allocation
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol

# Iterations end where one brings less than this part of the loss: what is left is for the descent.
MIN_GAIN = 1e-4
# A component that is responsible for less of p is dead: its moments would be those of a few points.
MIN_WEIGHT = 1e-8


class Cloud(NamedTuple):
    """Weighted points in B blocks, each of which stands for p: Σ weight·f(x) estimates E_p[f]."""

    x: jax.Array  # (B, D, n)
    weight: jax.Array  # (B, n)
    log_prob: jax.Array  # (B, n) of p, so that losses are KL


class Run(NamedTuple):
    """A mixture on its way to the fixed point, and KL on the cloud."""

    gmm: GMM
    loss: jax.Array


class _State(NamedTuple):
    """Of the loop over iterations."""

    step: jax.Array
    run: Run
    moving: jax.Array


class _Sums(NamedTuple):
    """The loss, and moments about its mean of what each component is responsible for."""

    loss: jax.Array
    mass: jax.Array  # (K,)
    first: jax.Array  # (K, D)
    second: jax.Array  # (K, D, D) where scales are full, else (K, D)


@jax.jit(static_argnums=(2, 3))
def cloud(key, p: GMM, num_blocks: int, num_points: int) -> Cloud:
    """Scrambled Sobol points of a checked mixture, allotted to its components in each block."""
    dtype, dim = p.means.dtype, p.dim
    z, weight = sobol(key, jnp.arange(num_blocks), 0, num_points, dim, dtype)
    owned = allocation.allocate(p, num_points)
    middles = (jnp.arange(num_points, dtype=dtype) + 0.5) / num_points
    chosen = allocation.choose(owned, middles)
    rate = owned.rates(p.logits)
    weight = weight * linalg.matmul(rate, chosen)[None]
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
    batched = jax.vmap(_run_one, in_axes=(0, None, None, None, None))
    return batched(starts, c, floor, num_steps, num_blocks)


def _run_one(start, c, floor, num_steps, num_blocks):
    dtype = c.x.dtype
    largest = jnp.max(jnp.abs(c.log_prob[0]))
    rounding = 8 * jnp.finfo(dtype).eps * largest

    def goes_on(state):
        return (state.step < num_steps) & state.moving

    def iterate(state):
        before = state.run.loss
        run = _squarem_step(state.run.gmm, c, floor, num_blocks)
        enough = MIN_GAIN * jnp.maximum(run.loss, 0.0) + rounding
        stalled = before - run.loss < enough
        return _State(state.step + 1, run, ~stalled)

    run = Run(start, jnp.full((), jnp.inf, dtype))
    state = _State(jnp.zeros((), int), run, jnp.ones((), bool))
    return jax.lax.while_loop(goes_on, iterate, state).run


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


def _squarem_step(start, c, floor, num_blocks):
    """Two steps, an extrapolation through them, and a third that is kept where it loses no more.

    Squared extrapolation: Varadhan and Roland (2008), "Simple and globally convergent methods",
    scheme S3.
    """
    once, _ = _step(start, c, floor, num_blocks)
    twice, loss = _step(once, c, floor, num_blocks)
    near = Run(twice, loss)
    extrapolated = _extrapolate(unconstrain(start), unconstrain(once), unconstrain(twice))
    far = Run(*_step(constrain(extrapolated), c, floor, num_blocks))
    better = far.loss <= near.loss
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), far, near)


def _extrapolate(start, once, twice):
    """Where the two steps lead on a parabola, in free parameters."""
    r = jax.tree.map(_difference, once, start)
    second = jax.tree.map(_difference, twice, once)
    v = jax.tree.map(jnp.subtract, second, r)
    length = jnp.maximum(_norm(r) / jnp.maximum(_norm(v), 1e-12), 1.0)

    def move(start, r, v):
        return start + 2 * length * r + length**2 * v

    return jax.tree.map(move, start, r, v)


def _difference(new, old):
    """Zero between two logits of −inf, which stay where they are."""
    difference = new - old
    return jnp.where(jnp.isfinite(difference), difference, 0.0)


def _norm(tree):
    return jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in tree))


def _step(g, c, floor, num_blocks):
    """Responsibilities, then weighted moments in the structure of `g`; and the loss of `g`."""
    sums = _expect(g, c, num_blocks)
    alive = sums.mass > MIN_WEIGHT
    mass = jnp.where(alive, sums.mass, 1.0)
    shift = sums.first / mass[:, None]
    if _is_full(g):
        covariance = sums.second / mass[:, None, None] - _outer(shift, shift)
        floors = floor * jnp.eye(g.dim, dtype=floor.dtype)
        scale = triangular.cholesky(covariance + floors[None])
    else:
        variance = sums.second / mass[:, None] - shift**2 + floor
        if g.scale.ndim < g.means.ndim:
            variance = jnp.mean(variance, axis=1)
        scale = jnp.sqrt(variance)
    logits = jnp.where(alive, jnp.log(mass), -jnp.inf)
    means = _where(alive, g.means + shift, g.means)
    return GMM(logits, means, _where(alive, scale, g.scale)), sums.loss


def _where(alive, new, old):
    """The new entries of components that are alive, the old ones of others."""
    alive = alive.reshape(-1, *[1] * (new.ndim - 1))
    return jnp.where(alive, new, old)


def _is_full(g):
    return g.scale.ndim > g.means.ndim


def _expect(g, c, num_blocks) -> _Sums:
    """Sums over the first blocks."""
    full = _is_full(g)
    prepared = density.prepare(g).density

    def block(index, total):
        x = c.x[index]
        weight = c.weight[index] / num_blocks
        table = density.component_table(prepared, density.squared_distances(prepared, x))
        # These exponentials are shared by the density and the responsibilities.
        peak = jnp.max(table, axis=0)
        ratios = jnp.exp(table - peak[None])
        mass = jnp.sum(ratios, axis=0)
        loss = jnp.vdot(weight, c.log_prob[index] - peak - jnp.log(mass))
        responsible = ratios * (weight / mass)[None]
        sums = _Sums(loss, *_moments(responsible, g.means, x, full))
        return jax.tree.map(jnp.add, total, sums)

    second = _outer(g.means, g.means) if full else g.means
    start = _Sums(jnp.zeros((), c.x.dtype), g.logits, g.means, second)
    return jax.lax.fori_loop(0, num_blocks, block, jax.tree.map(jnp.zeros_like, start))


def _moments(responsible, means, x, full):
    """Sums, and first and second moments about the means, of points `(D, n)` weighted by `(K, n)`.

    Second moments are matrices where `full`, else their diagonals.
    """
    # Moments about 0, where p has its mean, take one product and are several times faster. They
    # cancel: 2 log₁₀(σ_p/σ_k) digits are lost, which float64 can spare and float32 cannot.
    if x.dtype == jnp.float64:
        return _moved(*_moments_about_zero(responsible, x, full), means)
    centred = x[None] - means[:, :, None]
    spread = centred * responsible[:, None, :]
    second = linalg.matmul(spread, centred.mT) if full else jnp.sum(spread * centred, axis=2)
    return jnp.sum(responsible, axis=1), jnp.sum(spread, axis=2), second


def _moments_about_zero(responsible, x, full):
    dim, n = x.shape
    squares = x[:, None] * x[None] if full else x**2
    features = jnp.concatenate([jnp.ones((1, n), x.dtype), x, squares.reshape(-1, n)])
    sums = linalg.matmul(responsible, features.T)
    mass, first, second = jnp.split(sums, [1, 1 + dim], axis=1)
    return mass, first, second.reshape(-1, *squares.shape[:-1])


def _moved(mass, first, second, means):
    """Moments about the means instead of about 0."""
    product = _outer if second.ndim > means.ndim else jnp.multiply
    crossed = product(first, means) + product(means, first)
    crossed = crossed - product(mass * means, means)
    return mass[:, 0], first - mass * means, second - crossed


def _outer(a, b):
    return a[:, :, None] * b[:, None, :]
