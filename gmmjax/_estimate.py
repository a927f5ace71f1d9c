"""The engine under every estimate: E_p[f] as a sum of blocks, with its gradient and its standard error."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr

from gmmjax import _linalg, _points, _sample
from gmmjax._gmm import GMM, as_float
from gmmjax._validate import check_count, keyed

NUM_REPLICATES = 32  # ±2 stderr of 8, 16, 32 replicates cover 92, 94, 95 % (a t distribution's tails)


class Estimate(NamedTuple):
    """A Monte-Carlo estimate: exactly a value and its standard error, so that it is a `(loss, aux)` pair.

    Attributes:
      value: the estimate; this is what is differentiated.
      stderr: its standard error, from independent replicates; it carries no gradient. ±2 stderr covers the
        truth in about 95 % of runs. At the level of rounding it is a few units in the last place of the value.

    Raises:
      TypeError: `+` and `*`, which on tuples would join and repeat, say "use .value".

    Example:
      >>> import gmmjax
      >>> value, stderr = gmmjax.Estimate(1.0, 0.1)
    """

    value: jax.Array
    stderr: jax.Array

    def _refuse(self, *_):
        raise TypeError("arithmetic on an Estimate is not defined: use .value")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse  # type: ignore


@keyed
def expectation(key, fn: Callable, p: GMM, *, num_samples: int = 16_384, points=_points.sobol) -> Estimate:
    r"""Expectation of a function under a mixture, :math:`\mathbb E_p[f] = \sum_k w_k\, \mathbb E_z[f(\mu_k + L_k z)]`.

    An unbiased estimate whose gradient is unbiased too, in all leaves of `p` and in everything that `fn`
    closes over: weights stay outside the sampler, and points move with means and scales. Differentiating
    through points needs `fn` to be differentiable; a step in `fn` loses the gradient of means and scales.

    Args:
      key: a JAX key.
      fn: maps points `(n, D)` to values `(n,)`. Pass the same function object again to avoid recompilation.
      p: a mixture in D dimensions.
      num_samples: number of points, a Python int, rounded up to 32·2ᵐ (below 32: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves, in the units of `fn`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, `num_samples` < 1, or `fn` does not return one value per point.

    Reference:
      Owen (1997), "Monte Carlo variance of scrambled net quadrature"; Cochran (1977), "Sampling techniques",
      section 5A.9 (post-stratification).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> second_moment = gmmjax.expectation(jax.random.key(0), lambda x: x[:, 0] ** 2, p)
      >>> print(f"{second_moment.value:.3f}")
      2.000
    """
    check_count("num_samples", num_samples)
    p = as_float("p", p)
    traced = {n: _trace(fn, n, p) for n in (p.num_components, _layout(num_samples, [p]).block)}
    constants = {n: jaxpr.consts for n, jaxpr in traced.items()}
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(constants)):
        return _expectation(key, p, {}, fn, num_samples, points)

    # What fn closes over becomes an argument, so that it can be differentiated and batched.
    def converted(x, constants):
        return eval_jaxpr(traced[len(x)].jaxpr, constants[len(x)], x)[0]

    return _expectation(key, p, constants, converted, num_samples, points)


def _trace(fn, count, p):
    shape = jax.ShapeDtypeStruct((count, p.dim), p.means.dtype)
    jaxpr, result = jax.make_jaxpr(fn, return_shape=True)(shape)
    if getattr(result, "shape", None) != (count,):
        raise ValueError(f"fn: expected values of shape ({count},) for points {shape.shape}, got {result}")
    return jaxpr


@jax.jit(static_argnums=(3, 4, 5))
def _expectation(key, p, constants, fn, num_samples, points):
    def integrand(constants, x):
        values = fn(x.T, constants) if constants else fn(x.T)
        return values.astype(x.dtype)

    return estimate(key, [(p, integrand)], constants, num_samples, points)


def estimate(key, terms, params: Any, num_samples: int, points) -> Estimate:
    """Σ_j E_{p_j}[f_j(params, x)] over one set of points, for terms `(p_j, f_j)` with f_j: `(D, n) -> (n,)`.

    The points are common to the terms, so that their errors may cancel. The f_j close over nothing traced.
    """
    mixtures, integrands = zip(*terms, strict=True)
    layout = _layout(num_samples, mixtures)
    dtype, dim, n = mixtures[0].means.dtype, mixtures[0].dim, layout.per_replicate
    key_points, key_shift = jax.random.split(key)
    # f at the means, known without noise, is taken out of what is averaged: weights then cost nothing where f
    # is flat, and a function that is constant on each component comes out exact.
    levels = [f(params, g.means.T) for g, f in zip(mixtures, integrands, strict=True)]
    known = sum(jnp.vdot(jax.nn.softmax(g.logits), level) for g, level in zip(mixtures, levels, strict=True))

    def block(arguments, index):
        """What one block adds to the mean of every replicate."""
        mixtures, params, levels, allocations, shifts, key = arguments
        rows, start = layout.position(index)
        z, weight = points(key, rows, start, layout.columns, dim, dtype)
        z, weight = z.reshape(dim, -1), weight.reshape(-1)
        place = ((start + jnp.arange(layout.columns, dtype=dtype))[None] + shifts[rows][:, None]).reshape(-1) / n
        total = jnp.zeros(layout.block, dtype)
        for g, f, level, allocation in zip(mixtures, integrands, levels, allocations, strict=True):
            chosen = _sample.choose(allocation, place)
            x = _linalg.place(chosen, g.means, g.scale, z)
            rate, offset = _pick(jnp.stack([_rates(g, allocation, n), level]), chosen)
            total += rate * weight * (f(params, x) - offset)
        return jnp.zeros(layout.replicates, dtype).at[rows].add(jnp.sum(total.reshape(layout.rows, -1), axis=1))

    # With whole powers of two per component any point may stand anywhere; otherwise a common shift of the
    # positions makes each component's expected number of points exact.
    aligned = all(_sample.is_dyadic(g.num_components, n) for g in mixtures)
    shape = (layout.replicates,)
    shifts = jnp.full(shape, 0.5, dtype) if aligned else jax.random.uniform(key_shift, shape, dtype)
    allocations = [_sample.allocate(g, n) for g in mixtures]
    arguments = (mixtures, params, levels, allocations, shifts, key_points)
    value, means = _accumulate(block, layout.num_blocks)(arguments)
    return Estimate(known + value, _standard_error(known + means))


def _rates(g, allocation, num_points):
    """What a point of component k counts for in its replicate's mean."""
    share = allocation.upper - allocation.lower
    return jax.nn.softmax(g.logits) / (share + (share == 0)) / num_points  # absent: 0 / 1


def _pick(table, chosen):
    """Each point's entry of `(m, K)` tables, by its one-hot choice `(K, n)`."""
    return jnp.matmul(table, chosen, precision=_linalg.HIGHEST)


class Layout(NamedTuple):
    """How R replicates of n points are cut into blocks of `rows` replicates by `columns` points."""

    replicates: int
    per_replicate: int
    rows: int
    columns: int

    @property
    def block(self):
        return self.rows * self.columns

    @property
    def num_blocks(self):
        return self.replicates * self.per_replicate // self.block

    def position(self, index):
        """The replicates of a block, and the index of its first point in each."""
        across = self.per_replicate // self.columns
        return index // across * self.rows + jnp.arange(self.rows), index % across * self.columns


def _layout(num_samples, mixtures):
    replicates = min(NUM_REPLICATES, num_samples)
    per_replicate = 1 << (-(-num_samples // replicates) - 1).bit_length()
    size = min(_sample.block_size(g.num_components, g.dim) for g in mixtures)
    columns = min(per_replicate, size)
    rows = max(r for r in range(1, replicates + 1) if replicates % r == 0 and (r == 1 or r * columns <= size))
    return Layout(replicates, per_replicate, rows, columns)


def _accumulate(block, num_blocks):
    """Sum blocks in constant memory, forward and in either mode of differentiation.

    The sum is linear in its blocks, so each block's gradient is taken while its points are at hand; a scan
    differentiated from outside would store all points or draw them twice.
    """
    indices = np.arange(num_blocks, dtype=np.int32)  # a constant: the rule below may close over no tracer

    def scan(step, arguments, *more):
        shape = jax.eval_shape(block, arguments, indices[0])
        return jax.lax.scan(step, (jnp.zeros(shape.shape, shape.dtype), *more), indices)[0]

    @jax.custom_jvp
    def total(arguments):
        (means,) = scan(lambda carry, i: ((carry[0] + block(arguments, i),), None), arguments)
        return jnp.mean(means), means

    @functools.partial(total.defjvp, symbolic_zeros=True)
    def _total_jvp(primals, tangents):
        leaves, tree = jax.tree.flatten(primals[0])
        directions = jax.tree.leaves(tangents[0], is_leaf=_linalg.is_zero)
        active = [i for i, direction in enumerate(directions) if not _linalg.is_zero(direction)]

        def share(values, index):
            moved = dict(zip(active, values, strict=True))
            means = block(jax.tree.unflatten(tree, [moved.get(i, leaf) for i, leaf in enumerate(leaves)]), index)
            return jnp.mean(means), means

        def step(carry, index):
            (_, means), gradient = jax.value_and_grad(share, has_aux=True)(values, index)
            return jax.tree.map(jnp.add, carry, (means, gradient)), None

        values = [leaves[i] for i in active]
        means, gradient = scan(step, primals[0], [jnp.zeros_like(v) for v in values])
        slopes = [jnp.vdot(g, directions[i], precision=_linalg.HIGHEST) for i, g in zip(active, gradient, strict=True)]
        return (jnp.mean(means), means), (sum(slopes, jnp.zeros((), means.dtype)), jnp.zeros_like(means))

    return total


def _standard_error(means):
    """Standard error of the mean of independent replicates, with a floor at rounding level."""
    means = jax.lax.stop_gradient(means)
    count = means.shape[0]
    if count == 1:
        return jnp.full((), jnp.inf, means.dtype)
    spread = jnp.std(means, ddof=1) / jnp.sqrt(count).astype(means.dtype)
    return jnp.maximum(spread, 4 * jnp.finfo(means.dtype).eps * jnp.max(jnp.abs(means)))
