"""The engine under every estimate: E_p[f] as a sum of blocks, with its gradient and its standard error."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr

from gmmjax import _allocation, _blocks, _controls, _points, _unseen
from gmmjax._blocks import Sampling
from gmmjax._controls import Control
from gmmjax._mixture import components, linalg
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._unseen import Spikes
from gmmjax._validate import check_function, keyed

LARGEST_SHARE = 4.0  # of one replicate among R, in shares of 1/R


class Estimate(NamedTuple):
    """A Monte-Carlo estimate: exactly a value and its standard error, so that it is a `(loss, aux)` pair.

    Attributes:
      value: the estimate; this is what is differentiated.
      stderr: its standard error, from independent replicates and what all of them may have missed; it carries no
        gradient. ±2 stderr covers the truth in about 95 % of runs. At the level of rounding it is a few units in the
        last place of the value.

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

    __array_ufunc__ = None  # NumPy's scalars on the left give way
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse


@keyed
def expectation(
    key, fn: Callable, p: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=_points.sobol
) -> Estimate:
    r"""Expectation of a function under a mixture, :math:`\mathbb E_p[f] = \sum_k w_k\, \mathbb E_z[f(\mu_k + L_k z)]`.

    An unbiased estimate whose gradient is unbiased too, in all leaves of `p` and in everything that `fn`
    closes over: weights stay outside the sampler, and points move with means and scales. Differentiating
    through points needs `fn` to be differentiable; a step in `fn` loses the gradient of means and scales.

    Args:
      key: a JAX key.
      fn: maps points `(n, D)` to values `(n,)`. Pass the same function object again to avoid recompilation.
      p: a mixture in D dimensions.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from; fewer of them are more precise,
        but ±2 stderr then covers less: 95 % at 32, 94 % at 16, 92 % at 8.
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
    sampling = _blocks.sampling(num_samples, num_replicates, points)
    check_function("fn", fn)
    p = as_float("p", p)
    traced = {n: _trace(fn, n, p) for n in (2 * p.num_components, _blocks.layout(sampling, [p]).block)}
    constants = {n: jaxpr.consts for n, jaxpr in traced.items()}
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(constants)):
        return _expectation(key, p, {}, fn, sampling)

    # What fn closes over becomes an argument, so that it can be differentiated and batched.
    def converted(x, constants):
        return eval_jaxpr(traced[len(x)].jaxpr, constants[len(x)], x)[0]

    return _expectation(key, p, constants, converted, sampling)


def _trace(fn, count, p):
    shape = jax.ShapeDtypeStruct((count, p.dim), p.means.dtype)
    jaxpr, result = jax.make_jaxpr(fn, return_shape=True)(shape)
    if getattr(result, "shape", None) != (count,):
        raise ValueError(f"fn: expected values of shape ({count},) for points {shape.shape}, got {result}")
    return jaxpr


@jax.jit(static_argnums=(3, 4))
def _expectation(key, p, constants, fn, sampling):
    def integrand(constants, x):
        values = fn(x.T, constants) if constants else fn(x.T)
        return values.astype(x.dtype), ()

    relation = components.relate(p, p, linalg.inverse_scale(p.scale, p.means))
    found = replicates(key, [Term(p, integrand, _unseen.spikes([p], [relation]))], constants, sampling)
    return Estimate(found.value, standard_error(found))


class Term(NamedTuple):
    """E_p[f]: a mixture, and an integrand `(params, x) -> (values, features)` for points `(D, n)`.

    Values are `(n,)`; features are tables `(M_j, n)`, none without a control. The integrand closes over nothing traced.
    """

    mixture: GMM
    integrand: Callable
    spikes: Spikes  # components that f may show
    control: Control | None = None


class Replicates(NamedTuple):
    """An estimate, and what is known of its error, without a gradient."""

    value: jax.Array
    means: jax.Array  # (R,) independent ones, that the value is the average of
    unseen: jax.Array  # variance that their spread does not show


def replicates(key, terms: Sequence[Term], params: Any, sampling: Sampling, fixed_fit: bool = True) -> Replicates:
    """Σ_j E_{p_j}[f_j(params, x)] with its independent means.

    With `fixed_fit` how much of a control is subtracted is a constant of differentiation, which leaves the gradient
    unbiased; without, the gradient is that of the returned value.
    """
    mixtures, integrands, _, _ = zip(*terms, strict=True)
    layout = _blocks.layout(sampling, mixtures)
    dtype, dim, n, shape = mixtures[0].means.dtype, mixtures[0].dim, layout.per_replicate, (layout.replicates,)
    key_points, key_shift = jax.random.split(key)
    # f at the means, known without noise, is taken out of what is averaged: weights then cost nothing where f
    # is flat, and a function that is constant on each component comes out exact.
    probes = [t.integrand(params, jnp.concatenate([t.mixture.means, t.spikes.means]).T) for t in terms]
    baselines = [_baseline(t, probe, params, fixed_fit) for t, probe in zip(terms, probes, strict=True)]
    known = sum(jnp.vdot(jax.nn.softmax(g.logits), b.level) for g, b in zip(mixtures, baselines, strict=True))

    def block(arguments, index):
        """What one block adds to the mean of every replicate."""
        mixtures, params, baselines, allocations, shifts, key = arguments
        row, start = layout.position(index)
        rows = row + np.arange(layout.rows, dtype=np.int32)
        z, weight = map(layout.groups, sampling.points(key, rows, start, layout.columns, dim, dtype))
        shift = jax.lax.dynamic_slice(shifts, (row,), (layout.rows,))
        places = (start + np.arange(layout.columns, dtype=np.int32)).astype(dtype)[None] + shift[:, None]
        first = layout.groups(places)[:, 0] / n
        total = jnp.zeros_like(weight)
        for g, f, known, allocation in zip(mixtures, integrands, baselines, allocations, strict=True):
            choice = _allocation.choose(allocation, first)
            values, features = f(params, _allocation.place(choice, g.means, g.scale, z))
            rate, constant = _allocation.pick(jnp.stack([_rates(g, allocation, n), known.constant]), choice)[:, :, None]
            rest = values.reshape(weight.shape) - constant
            for slopes, table in zip(known.slopes, features, strict=True):
                slopes = _allocation.pick(slopes.T, choice)[:, :, None]
                rest -= jnp.sum(slopes * table.reshape(-1, *weight.shape), axis=0)
            total += rate * weight * rest
        return layout.all_rows(layout.row_sums(total), row)

    # With whole powers of two per component any point may stand anywhere; otherwise a common shift of the
    # positions makes each component's expected number of points exact.
    shifts = jnp.full(shape, 0.5, dtype) if layout.owned else jax.random.uniform(key_shift, shape, dtype)
    allocations = [_allocation.allocate(g, n) for g in mixtures]
    arguments = (mixtures, params, baselines, allocations, shifts, key_points)
    value, means = _blocks.accumulate(block, layout.num_blocks, shape, dtype)(arguments)
    unseen = jnp.zeros((), dtype)
    for (g, _, spikes, _), (values, features), b, a in zip(terms, probes, baselines, allocations, strict=True):
        # What would be averaged at the means of the spikes, as points of each component.
        residuals = values[None, g.num_components :] - b.constant[:, None]
        for slopes, table in zip(b.slopes, features, strict=True):
            residuals -= jnp.matmul(slopes, table[:, g.num_components :], precision=linalg.HIGHEST)
        points = (a.upper - a.lower) * layout.replicates * n
        unseen += _unseen.variance(g, points, spikes, residuals)
    return Replicates(known + value, jax.lax.stop_gradient(known) + means, unseen)


def _baseline(term, probe, params, fixed_fit):
    at_means = jax.tree.map(lambda table: table[..., : term.mixture.num_components], probe)
    return _controls.baseline(term.mixture, term.integrand, term.control, params, at_means, fixed_fit)


def _rates(g, allocation, num_points):
    """What a point of component k counts for in its replicate's mean."""
    share = allocation.upper - allocation.lower
    return jax.nn.softmax(g.logits) / (share + (share == 0)) / num_points  # absent: 0 / 1


def carried_by_few(parts: jax.Array) -> jax.Array:
    """Whether one of R replicates carries far more than its share of a sum: the mark of a tail that others missed."""
    return jnp.max(parts) > LARGEST_SHARE * jnp.mean(parts)


def standard_error(found: Replicates) -> jax.Array:
    """Standard error of the mean of independent replicates, with a floor at rounding level."""
    means = jax.lax.stop_gradient(found.means)
    count = means.shape[0]
    if count == 1:
        return jnp.full((), jnp.inf, means.dtype)
    spread = jnp.sqrt(jnp.var(means, ddof=1) / count + found.unseen)
    return jnp.maximum(spread, 4 * jnp.finfo(means.dtype).eps * jnp.max(jnp.abs(means)))
