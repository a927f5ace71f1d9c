"""Divergences that are functions of the power integral ∫ p^α q^(1−α): Rényi, Tsallis, χ², Bhattacharyya."""

import jax
import jax.numpy as jnp

from gmmjax import _blocks, _density, _points
from gmmjax._estimate import Estimate, standard_error
from gmmjax._gmm import GMM, common_float
from gmmjax._ratios import balanced_replicates, log_ratio, tail_checked
from gmmjax._validate import check_between, keyed


@keyed
def renyi_divergence(
    key, p: GMM, q: GMM, alpha, *, num_samples: int = 16_384, num_replicates: int = 32, points=_points.sobol
) -> Estimate:
    r"""Rényi divergence, :math:`\frac{1}{\alpha - 1} \log \int p^\alpha q^{1-\alpha}`, in nats; an estimate.

    Consistent: a logarithm of a mean is biased by about half its squared relative error, as is its gradient. At
    α = 1 it is KL(p‖q). For α > 1 it is infinite where α Σ_p⁻¹ + (1 − α) Σ_q⁻¹ is not positive definite in the tails,
    and its variance is infinite well before that. Where a few points carry the sum, `stderr` is infinite instead
    of a confident wrong number.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      alpha: the order, above 0; it may be traced.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `alpha` is not above 0.
    Reference:
      Rényi (1961), "On measures of entropy and information", equation 3.3; van Erven and Harremoës (2014),
      "Rényi divergence and Kullback-Leibler divergence", equation 9.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.renyi_divergence(jax.random.key(0), p, q, 0.5)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.07 True
    """
    return _estimate_power(key, p, q, alpha, _renyi, _blocks.sampling(num_samples, num_replicates, points))


@keyed
def tsallis_divergence(
    key, p: GMM, q: GMM, alpha, *, num_samples: int = 16_384, num_replicates: int = 32, points=_points.sobol
) -> Estimate:
    r"""Tsallis divergence, :math:`\frac{1}{\alpha - 1} \left(\int p^\alpha q^{1-\alpha} - 1\right)`; an estimate.

    Without units. Divided by α it is Cressie and Read's power divergence, Amari's α-divergence up to notation.
    Unbiased, as is its gradient in all leaves of `p` and `q`. At α = 1 it is KL(p‖q). For α > 1 it is infinite where
    α Σ_p⁻¹ + (1 − α) Σ_q⁻¹ is not positive definite in the tails, and its variance is infinite well before that.
    Where a few points carry the sum, `stderr` is infinite instead of a confident wrong number.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      alpha: the order, above 0; it may be traced.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `alpha` is not above 0.
    Reference:
      Tsallis (1998), "Generalized entropy-based criterion for consistent testing", equation 6.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.tsallis_divergence(jax.random.key(0), p, q, 0.5)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.07 True
    """
    return _estimate_power(key, p, q, alpha, _tsallis, _blocks.sampling(num_samples, num_replicates, points))


@keyed
def chi2_divergence(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=_points.sobol
) -> Estimate:
    r"""χ² divergence, :math:`\int p^2 / q - 1`, Pearson's; an estimate.

    Without units. Unbiased, as is its gradient in all leaves of `p` and `q`. It is infinite where 2 Σ_p⁻¹ − Σ_q⁻¹ is
    not positive definite in the tails, that is where q has less than half the variance of p, and its estimator has
    infinite variance already where 3 Σ_p⁻¹ − 2 Σ_q⁻¹ is not. Where a few points carry the sum, `stderr` is infinite
    instead of a confident wrong number.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.
    Reference:
      Nielsen and Nock (2014), "On the chi square and higher-order chi distances for approximating f-divergences",
      equation 2.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.chi2_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.15 True
    """
    return _estimate_power(key, p, q, 2.0, _tsallis, _blocks.sampling(num_samples, num_replicates, points))


@keyed
def bhattacharyya_distance(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=_points.sobol
) -> Estimate:
    r"""Bhattacharyya distance, :math:`-\log \int \sqrt{pq}`, in nats; an estimate.

    Half the Rényi divergence of order ½. Consistent: a logarithm of a mean is biased by about half its squared
    relative error, as is its gradient. Where the mixtures are so far apart that a few points carry the sum,
    `stderr` is infinite instead of a confident wrong number.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.
    Reference:
      Bhattacharyya (1943), "On a measure of divergence between two statistical populations".

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.bhattacharyya_distance(jax.random.key(0), p, q)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.037 True
    """
    return _estimate_power(key, p, q, 0.5, _bhattacharyya, _blocks.sampling(num_samples, num_replicates, points))


def _estimate_power(key, p, q, alpha, transform, sampling):
    check_between("alpha", alpha, 0.0, jnp.inf)
    p, q = common_float(p=p, q=q)
    return _power(key, p, q, jnp.asarray(alpha, p.means.dtype), transform, sampling)


@jax.jit(static_argnums=(4, 5))
def _power(key, p, q, alpha: jax.Array, transform, sampling):
    near, shift = _regime(p, q, alpha)
    value, means = balanced_replicates(key, p, q, _integrand, (alpha, near, shift), sampling)
    result, slope = jax.jvp(lambda value: transform(value, alpha, near, shift), (value,), (jnp.ones_like(value),))
    stderr = jnp.abs(jax.lax.stop_gradient(slope)) * standard_error(means)
    return Estimate(result, tail_checked(stderr, jnp.where(near, 1 + (alpha - 1) * means, means)))


def _regime(p, q, alpha):
    """Whether the integral is near 1, judged at the means of the components, and its logarithm to scale by if not."""
    densities = _density.precision(p), _density.precision(q)
    scores = [_log_power(log_ratio(densities, g.means.T), alpha) + jax.nn.log_softmax(g.logits) for g in (p, q)]
    shift = jax.lax.stop_gradient(jax.nn.logsumexp(jnp.concatenate(scores)) - jnp.log(2.0).astype(alpha.dtype))
    return (jnp.abs(shift) < 0.7) | (alpha == 1), shift


def _log_power(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """log(p^α q^(1−α) / m)."""
    return jnp.log(2.0).astype(t.dtype) + jax.nn.log_sigmoid(t) + (alpha - 1) * t


def _integrand(t: jax.Array, extra):
    """(p^α q^(1−α) − p)/((α − 1) m) − (p − q)/m where the integral is near 1, else p^α q^(1−α)/m, scaled."""
    # What is subtracted in the first form integrates to 0 and leaves a second-order difference where p ≈ q.
    alpha: jax.Array
    near: jax.Array
    shift: jax.Array
    alpha, near, shift = extra
    far = jnp.exp(jnp.where(near, 0.0, _log_power(t, alpha) - shift))
    return jnp.where(near, 2 * _scaled_growth(t, alpha) - 2 * jnp.tanh(0.5 * t), far)


def _scaled_growth(t: jax.Array, alpha: jax.Array) -> jax.Array:
    """σ(t) (exp((α − 1) t) − 1)/(α − 1), which at α = 1 is σ(t) t."""
    u = (alpha - 1) * t
    large = jnp.abs(u) > 0.01
    safe = jnp.where(large, u, 1.0)
    moderate = jnp.where(jnp.abs(safe) < 1, safe, 1.0)
    sigma = jax.nn.sigmoid(t)
    jump = jnp.exp(jax.nn.log_sigmoid(t) + safe) - sigma
    difference = jnp.where(jnp.abs(safe) < 1, sigma * jnp.expm1(moderate), jump)
    small = jnp.where(large, 0.0, u)
    series = 1 + small / 2 * (1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 6))))
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    return jnp.where(large, difference / gap, sigma * t * series)


def _log_integral(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    """Logarithm of ∫ p^α q^(1−α)."""
    overflows = jnp.isinf(value)  # points so unequal say nothing but that p and q are very far apart
    far = jnp.log(jnp.where(near | overflows, 1.0, value)) + shift
    far = jnp.where(overflows, jax.lax.stop_gradient(alpha - 1) * jnp.inf, far)
    return jnp.where(near, jnp.log1p(jnp.where(near, (alpha - 1) * value, 0.0)), far)


def _renyi(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    # At α = 1 the slope in α is that of log1p((α − 1) S)/(α − 1) = S − (α − 1) S²/2.
    return jnp.where(alpha == 1, value - 0.5 * (alpha - 1) * value**2, _log_integral(value, alpha, near, shift) / gap)


def _tsallis(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    gap = jnp.where(alpha == 1, 1.0, alpha - 1)
    return jnp.where(near, value, jnp.expm1(_log_integral(value, alpha, near, shift)) / gap)


def _bhattacharyya(value: jax.Array, alpha: jax.Array, near: jax.Array, shift: jax.Array) -> jax.Array:
    return -_log_integral(value, alpha, near, shift)
