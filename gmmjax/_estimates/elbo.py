"""Reverse KL from a mixture to a density that is no mixture: variational inference."""

from collections.abc import Callable

import jax

from gmmjax._compile import WIDE, jit_with
from gmmjax._estimates.expectation import expectation
from gmmjax._mixture.density import log_prob
from gmmjax._mixture.gmm import GMM, as_float
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import check_function, keyed


@keyed
def kl_to_density(
    key,
    q: GMM,
    log_density: Callable,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
) -> Estimate:
    r"""KL from a mixture to an unnormalised density; an estimate.

    .. math:: \mathbb E_q[\log q - \log \tilde\pi]

    With :math:`\tilde\pi = Z \pi` this is :math:`\mathrm{KL}(q \| \pi) - \log Z`, the negative
    evidence lower bound, in nats: minimise it with `gmmjax.fit` for variational inference.
    Unbiased, as is its gradient in all leaves of `q`, weights included, and in what `log_density`
    closes over; `log_density` has to be differentiable.

    Args:
      key: a JAX key.
      q: the mixture to sample, in D dimensions.
      log_density: maps points `(n, D)` to :math:`\log \tilde\pi`, `(n,)`. Pass the same function
        object again to avoid recompilation; a function of one point goes through `jax.vmap`.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score of `q`, whose mean is zero: less noise,
        none at all where q = π. With False the gradient is the derivative of the returned value for
        this key, as line searches and second derivatives need.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `q` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, `num_samples` < 1, or `log_density` does not return one value per
        point.

    Reference:
      Roeder, Wu and Duvenaud (2017), "Sticking the landing", equation 7; Morningstar, Vikram, Ham,
      Gallagher and Dillon (2021), "Automatic differentiation variational inference with mixtures",
      section 3 (strata).

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
      >>> log_density = lambda x: -0.5 * jnp.sum(x**2, axis=1)
      >>> value, stderr = gmmjax.kl_to_density(jax.random.key(0), q, log_density)
      >>> print(f"{value:.4f}")  # −log Z, Z = 2π
      -1.8379
    """
    check_function("log_density", log_density)
    sampling = check_sampling(num_samples, num_replicates, points)
    return _kl_to_density(key, as_float("q", q), log_density, sampling, stick_the_landing)


@jit_with(WIDE, static_argnums=(2, 3, 4))
def _kl_to_density(key, q, log_density, sampling, stick_the_landing):
    detached = jax.lax.stop_gradient(q) if stick_the_landing else q

    def log_ratio(x):
        return log_prob(detached, x) - log_density(x)

    return expectation(
        key,
        log_ratio,
        q,
        num_samples=sampling.num_samples,
        num_replicates=sampling.num_replicates,
        points=sampling.points,
    )
