"""The expectation of any function under a mixture."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from gmmjax._jax import evaluate, is_traced
from gmmjax._mixture import density
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._pairs import components
from gmmjax._sampling import blocks, spikes
from gmmjax._sampling.engine import Term, add_up, begin, looks_at_means, num_looked_at
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import Sampling, check_sampling
from gmmjax._sampling.stages import estimate_in_stages
from gmmjax._validate import check_function, check_values, given_points, keyed


@keyed
def expectation(
    key, fn: Callable, p: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Expectation of a function under a mixture.

    .. math:: \mathbb E_p[f] = \sum_k w_k\, \mathbb E_z[f(\mu_k + L_k z)]

    An unbiased estimate whose gradient is unbiased too, in all leaves of `p` and in everything that
    `fn` closes over: weights stay outside the sampler, and points move with means and scales.
    Differentiating through points needs `fn` to be differentiable; a step in `fn` loses the
    gradient of means and scales.

    Args:
      key: a JAX key.
      fn: maps points `(n, D)` to values `(n,)`. Pass the same function object again to avoid
        recompilation.
      p: a mixture in D dimensions.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from; fewer of them are
        more precise, and their `stderr` is enlarged, so that ±2 of it covers 92 to 97 %.
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves, in the units of `fn`.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, `num_samples` < 1, or `fn` does not return one value per point.

    Reference:
      Owen (1997), "Monte Carlo variance of scrambled net quadrature"; Cochran (1977), "Sampling
      techniques", section 5A.9 (post-stratification).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> second_moment = gmmjax.expectation(jax.random.key(0), lambda x: x[:, 0] ** 2, p)
      >>> print(f"{second_moment.value:.3f}")
      2.000
    """
    sampling = check_sampling(num_samples, num_replicates, points)
    check_function("fn", fn)
    p = as_float("p", p)
    # The engine calls fn at the means of p, as components and as spikes, and at blocks.
    layout = blocks.layout(sampling, [p])
    counts = {layout.block_size, num_looked_at(layout.num_points, p.num_components)}
    if looks_at_means(layout.num_points, p.num_components):
        counts.add(p.num_components)
    traced = {count: _trace(fn, count, p) for count in counts}
    constants = {count: closed.consts for count, closed in traced.items()}
    if not is_traced(constants):
        return _estimate((key, (p,), {}), _Problem(fn, sampling))

    # What fn closes over becomes an argument, so that it can be differentiated and batched. The
    # programs alone are kept, or tracers would outlive their trace.
    programs = {count: closed.jaxpr for count, closed in traced.items()}

    def converted(x, constants):
        return evaluate(programs[len(x)], constants[len(x)], x)

    return _estimate((key, (p,), constants), _Problem(converted, sampling))


def _trace(fn, count, p):
    shape = jax.ShapeDtypeStruct((count, p.dim), p.means.dtype)
    with given_points("fn"):
        closed, result = jax.make_jaxpr(fn, return_shape=True)(shape)
    check_values("fn", result, count)
    return closed


class _Problem(NamedTuple):
    """What is static."""

    fn: Callable
    sampling: Sampling

    def integrand(self, constants, x):
        """Values at points `(D, n)`; no features."""
        values = self.fn(x.T, constants) if constants else self.fn(x.T)
        return values.astype(x.dtype), ()


def _prepare(arrays, problem):
    return arrays


def _begin(arrays, problem):
    key, (p,), constants = arrays
    relations = components.relate_all(p, [density.prepare(p)])
    term = Term(p, problem.integrand, spikes.spikes([p], relations))
    return begin(key, [term], constants, problem.sampling, fixed_fit=True)


def _end(begun, problem):
    return conclude(add_up(begun, (problem.integrand,), problem.sampling))


_estimate = estimate_in_stages(_prepare, _begin, _end)
