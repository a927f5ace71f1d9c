"""Functions of the Hellinger integral ∫ p^α q^(1−α): Rényi, Tsallis, χ², Bhattacharyya."""

import jax.numpy as jnp

from gmmjax._estimates import hellinger_integral
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._properties import divergence
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import check_between, keyed


@divergence(zero_at_equality=True)
@keyed
def renyi_divergence(
    key, p: GMM, q: GMM, alpha, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Rényi divergence, in nats; an estimate.

    .. math:: \frac{1}{\alpha - 1} \log \int p^\alpha q^{1-\alpha}

    Consistent: a logarithm of a mean is biased by about half its squared relative error, as is its
    gradient. At α = 1 it is KL(p‖q). For α > 1 it is infinite where α Σ_p⁻¹ + (1 − α) Σ_q⁻¹ is not
    positive definite in the tails, and its variance is infinite well before that. Where the
    covariances show this, or a few points carry the sum, `stderr` is infinite instead of a
    confident wrong number. What a very rare component of `p` far outside adds, p²/q of it being
    largest where no point falls, is in neither (weight e⁻⁵⁰ at 10 deviations). For α < 1 closed
    forms take the place of points that say less (see `bhattacharyya_distance`).

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      alpha: the order, above 0; it may be traced.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1; `alpha` is not above 0.

    Reference:
      Rényi (1961), "On measures of entropy and information", equation 3.3; van Erven and Harremoës
      (2014), "Rényi divergence and Kullback-Leibler divergence", equation 9.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.renyi_divergence(jax.random.key(0), p, q, 0.5)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.07 True
    """
    return _estimate_power(
        key,
        p,
        q,
        alpha,
        hellinger_integral.renyi,
        check_sampling(num_samples, num_replicates, points),
    )


@divergence(zero_at_equality=True)
@keyed
def tsallis_divergence(
    key, p: GMM, q: GMM, alpha, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Tsallis divergence; an estimate.

    .. math:: \frac{1}{\alpha - 1} \left(\int p^\alpha q^{1-\alpha} - 1\right)

    Without units. Divided by α it is Cressie and Read's power divergence, Amari's α-divergence up
    to notation. Unbiased, as is its gradient in all leaves of `p` and `q`. At α = 1 it is KL(p‖q).
    For α > 1 it is infinite where α Σ_p⁻¹ + (1 − α) Σ_q⁻¹ is not positive definite in the tails,
    and its variance is infinite well before that. Where the covariances show this, or a few points
    carry the sum, `stderr` is infinite instead of a confident wrong number. What a very rare
    component of `p` far outside adds is in neither (see `renyi_divergence`).

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      alpha: the order, above 0; it may be traced.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
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
    return _estimate_power(
        key,
        p,
        q,
        alpha,
        hellinger_integral.tsallis,
        check_sampling(num_samples, num_replicates, points),
    )


@divergence(zero_at_equality=True)
@keyed
def chi2_divergence(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""χ² divergence, :math:`\int p^2 / q - 1`, Pearson's; an estimate.

    Without units. Unbiased, as is its gradient in all leaves of `p` and `q`. It is infinite where 2
    Σ_p⁻¹ − Σ_q⁻¹ is not positive definite in the tails, that is where q has less than half the
    variance of p, and its estimator has infinite variance already where (4 − 1/s) Σ_p⁻¹ − 2 Σ_q⁻¹
    is not, with s = 1 + 2/D² for Sobol points and 1 for independent ones. Where the covariances
    show this (with the former s), or a few points carry the sum, `stderr` is infinite instead of a
    confident wrong number.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Nielsen and Nock (2014), "On the chi square and higher-order chi distances for approximating
      f-divergences", equation 2.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.chi2_divergence(jax.random.key(0), p, q)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      0.15 True
    """
    return _estimate_power(
        key,
        p,
        q,
        2.0,
        hellinger_integral.tsallis,
        check_sampling(num_samples, num_replicates, points),
    )


@divergence(symmetric=True, zero_at_equality=True)
@keyed
def bhattacharyya_distance(
    key, p: GMM, q: GMM, *, num_samples: int = 16_384, num_replicates: int = 32, points=sobol
) -> Estimate:
    r"""Bhattacharyya distance, :math:`-\log \int \sqrt{pq}`, in nats; an estimate.

    Half the Rényi divergence of order ½. Consistent: a logarithm of a mean is biased by about half
    its squared relative error, as is its gradient. Where closed forms of all pairs of components
    enclose it more narrowly than the points do, as of mixtures far apart, it is the middle between
    these, and `stderr` half their gap, ½ log(K_p K_q) at most; of single Gaussians it is exact.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points for each side, a Python int, rounded up to R·2ᵐ (below R: taken
        as it is, one replicate per point; 1 gives stderr = inf).
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
    return _estimate_power(
        key,
        p,
        q,
        0.5,
        hellinger_integral.bhattacharyya,
        check_sampling(num_samples, num_replicates, points),
    )


def _estimate_power(key, p, q, alpha, transform, sampling):
    p, q = common_float(p=p, q=q)
    alpha = check_between("alpha", alpha, 0.0, float(jnp.finfo(p.means.dtype).max))
    sides = (True, True) if is_traced(alpha) else (bool(alpha < 1), bool(alpha > 1))
    alpha = jnp.asarray(alpha, p.means.dtype)
    problem = hellinger_integral.problem(transform, *sides, sampling)
    return hellinger_integral.estimate((key, (p, q), alpha), problem)
