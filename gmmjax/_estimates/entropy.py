"""Entropies: of a mixture, of one under another, and what parts of a point say of each other."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gmmjax._estimates.block_information import estimate_block_information
from gmmjax._estimates.log_ratios import estimate_log_ratios
from gmmjax._estimates.recipes import LogRatio, Options
from gmmjax._mixture.affine import check_dims
from gmmjax._mixture.gmm import GMM, as_float, common_float
from gmmjax._pairs import components
from gmmjax._properties import divergence
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._sampling.settings import check_sampling
from gmmjax._validate import keyed

ENTROPY = LogRatio(under=0, of=None, over=0)
CROSS_ENTROPY = LogRatio(under=0, of=None, over=1)


@keyed
def entropy(
    key,
    p: GMM,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = True,
) -> Estimate:
    r"""Differential entropy, :math:`H(p) = -\mathbb E_p[\log p]`, in nats; an estimate.

    Unbiased, as is its gradient in all leaves of `p`, weights included; exact to rounding for a
    single Gaussian. A differential entropy may be negative.

    Args:
      key: a JAX key.
      p: a mixture.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score, whose mean is zero: less noise. With
        False the gradient is the derivative of the returned value for this key, as line searches
        and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Cover and Thomas (2006), "Elements of information theory", equation 8.1.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> value, stderr = gmmjax.entropy(jax.random.key(0), p)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      1.76 True
    """
    p = as_float("p", p)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing, control_variate)
    return estimate_log_ratios(key, (p,), (ENTROPY,), sampling, options)


@divergence()
@keyed
def cross_entropy(
    key,
    p: GMM,
    q: GMM,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    control_variate: bool = True,
) -> Estimate:
    r"""Cross-entropy, in nats; an estimate.

    .. math:: H(p, q) = -\mathbb E_p[\log q] = H(p) + \mathrm{KL}(p \| q)

    The expected negative log-likelihood of `q` on data from `p`. Unbiased, as is its gradient in
    all leaves of `p` and `q`; exact to rounding for single Gaussians.

    Args:
      key: a JAX key.
      p: the mixture to sample.
      q: the mixture to compare it with, of the same dimension.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or a count is not an int.
      ValueError: shapes disagree, or a count is below 1.

    Reference:
      Cover and Thomas (2006), "Elements of information theory", section 5.4.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> value, stderr = gmmjax.cross_entropy(jax.random.key(0), p, q)
      >>> print(f"{value:.2f}", bool(stderr < 1e-3))
      1.86 True
    """
    p, q = common_float(p=p, q=q)
    sampling = check_sampling(num_samples, num_replicates, points)
    options = Options(stick_the_landing=False, control_variate=control_variate)
    return estimate_log_ratios(key, (p, q), (CROSS_ENTROPY,), sampling, options)


@keyed
def mutual_information(
    key,
    p: GMM,
    dims: Sequence[int] | None = None,
    *,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    points=sobol,
    stick_the_landing: bool = True,
    control_variate: bool = True,
) -> Estimate:
    r"""Mutual information of a point and its component, or of two blocks; an estimate.

    .. math::
      I(x; k) = H(p) - \sum_k w_k H(\mathcal N_k), \qquad
      I(x_A; x_B) = \mathbb E_p\Big[\log \frac{p(x)}{p(x_A)\, p(x_B)}\Big]

    In nats. That with the component is between 0 (components that coincide) and the entropy of the
    weights (components far apart). That between some coordinates and all others, which `dims` asks
    for, is 0 where they are independent, and exact to rounding for a single Gaussian. Unbiased, as
    is the gradient in all leaves of `p`; never clamped.

    Args:
      key: a JAX key.
      p: a mixture.
      dims: the coordinates of one block, Python ints, negative ones count from the end (static
        under `jit`); the other block is the rest. None asks for the component.
      num_samples: number of points, a Python int, rounded up to R·2ᵐ (below R: taken as it is, one
        replicate per point; 1 gives stderr = inf).
      num_replicates: R, the independent replicates that `stderr` is taken from (see `expectation`).
      points: `gmmjax.sobol` or `gmmjax.iid`.
      stick_the_landing: leave out of the gradient the score, whose mean is zero: less noise. With
        False the gradient is the derivative of the returned value for this key, as line searches
        and second derivatives need.
      control_variate: subtract what has a mean in closed form, with coefficients fitted around each
        mean. Not beyond 2²¹ pairs of components, about 1,000 on each side, where nothing of K²
        numbers is made.

    Returns:
      An `Estimate` with scalar leaves.

    Raises:
      TypeError: `key` is not a key, `p` is not a `GMM`, `dims` is not a sequence of ints, or a
        count is not an int.
      ValueError: shapes disagree, or a count is below 1; `dims` is empty, holds all coordinates,
        names one twice or one that does not exist.

    Reference:
      Kolchinsky and Tracey (2017), "Estimating mixture entropy with pairwise distances", section 2;
      Cover and Thomas (2006), "Elements of information theory", equation 8.47.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> value, stderr = gmmjax.mutual_information(jax.random.key(0), p)
      >>> print(f"{value:.3f}", bool(stderr < 1e-3))
      0.337 True
    """
    p = as_float("p", p)
    if dims is not None:
        block = check_dims(dims, p.dim)
        if len(block) == p.dim:
            raise ValueError(f"dims: holds all {p.dim} coordinates, and leaves no other block")
        sampling = check_sampling(num_samples, num_replicates, points)
        options = Options(stick_the_landing, control_variate)
        return estimate_block_information(key, p, block, sampling, options)
    total = entropy(
        key,
        p,
        num_samples=num_samples,
        num_replicates=num_replicates,
        points=points,
        stick_the_landing=stick_the_landing,
        control_variate=control_variate,
    )
    return _less_components(total, p)


@jax.jit
def _less_components(total, p):
    """The entropy of a mixture less the mean of its components'; at most that of the weights."""
    w = jax.nn.softmax(p.logits)
    present = w > 0
    largest = -jnp.sum(jnp.where(present, w * jnp.log(jnp.where(present, w, 1.0)), 0.0))
    value = total.value - jnp.vdot(w, components.entropies(p))
    # The error keeps the rounding of both entropies.
    rounding = 4 * jnp.finfo(w.dtype).eps * jnp.abs(total.value)
    bound = jnp.where(jnp.isinf(total.stderr), jnp.inf, jnp.maximum(largest, rounding))
    return Estimate(value, jnp.minimum(total.stderr, jax.lax.stop_gradient(bound)))
