"""Products of densities, and densities of sums: a Gaussian for each pair of components."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._algebra import far
from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg, scales, triangular
from gmmjax._mixture.gmm import GMM, common_float
from gmmjax._mixture.structure import is_full
from gmmjax._pairs import components
from gmmjax._validate import keyless


@keyless
def product(p: GMM, q: GMM) -> tuple[GMM, jax.Array]:
    r"""Normalised product of two densities, :math:`p(x)\, q(x) / Z`, and log Z; exact.

    .. math::
      p_a q_b = \mathcal N(\mu_a; \mu_b, \Sigma_a + \Lambda_b)\;
      \mathcal N\big(x;\, \cdot\,, (\Sigma_a^{-1} + \Lambda_b^{-1})^{-1}\big)

    Bayes' rule for a prior and a likelihood that are both mixtures. In log space: right also where
    the two do not overlap in floating point. The type of covariance is the smallest that holds
    both, and tied where both are.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q components, of the same dimension.

    Returns:
      A `GMM` of K_p·K_q components, that of the pair (a, b) at a·K_q + b, with normalised logits;
      and :math:`\log Z = \log \int p q`, a scalar. Both are differentiable in all leaves.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Bromiley (2003), "Products and convolutions of Gaussian probability density functions".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> posterior, log_normaliser = gmmjax.product(p, p._replace(means=jnp.full((1, 1), 2.0)))
      >>> print(posterior.means, f"{log_normaliser:.4f}")
      [[1.]] -2.2655
    """
    return _product(*common_float(p=p, q=q))


@jax.jit
def _product(p, q):
    logits, log_normaliser = _product_weights(p, q)
    means, scale = _full_product(p, q) if is_full(p, q) else _diagonal_product(p, q)
    return components.of_pairs(p, q, logits, means, scale), log_normaliser


def _product_weights(p, q):
    """Normalised logarithms of w_a v_b N(μ_a; μ_b, Σ_a + Λ_b), `(K_p·K_q,)`, and of their sum."""
    pairs = (p.num_components, q.num_components)
    there, here = (jnp.broadcast_to(m, (*pairs, p.dim)) for m in (p.means[:, None], q.means[None]))
    factors = _pair_factors(p, q)
    if is_full(p, q):
        lower = triangular.lower_factor(jnp.concatenate(factors, axis=-1))
        inverse = triangular.tril_inverse(lower)
        white = linalg.matvec(inverse, there - here)
        solved = linalg.matvec(inverse.mT, white)
        log_dets = jnp.sum(jnp.log(linalg.diagonal(lower)), axis=-1)
    else:
        deviations = jnp.hypot(*factors)
        white = (there - here) / deviations
        solved = white / deviations
        log_dets = components.sum_coordinates(jnp.log(deviations), p.dim)
    solved = solved.reshape(-1, p.dim)
    images = [far.image(_flat(factor, (*pairs, p.dim)), solved) for factor in factors]
    large, small = (jnp.concatenate(parts, axis=1) for parts in zip(*images, strict=True))
    square = far.Square(_flat(there), _flat(here), solved, (large, small))
    log_dets = jnp.broadcast_to(log_dets, pairs).reshape(-1)
    logits = far.log_weights(_pair_logits(p, q), log_dets, square)
    integrals = -log_dets - 0.5 * jnp.sum(_flat(white) ** 2, axis=1)
    log_sum = jax.nn.logsumexp(_pair_logits(p, q) + integrals)
    return logits, log_sum - 0.5 * p.dim * float(np.log(2 * np.pi))


@keyless
def convolve(p: GMM, q: GMM) -> GMM:
    r"""Distribution of the sum of independent draws from two mixtures; exact.

    .. math:: (p * q)(x) = \sum_{ab} w_a v_b\, \mathcal N(x; \mu_a + \mu_b, \Sigma_a + \Lambda_b)

    With one Gaussian of mean 0 for q it is p under added noise. The type of covariance is the
    smallest that holds both, and tied where both are.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q components, of the same dimension.

    Returns:
      A `GMM` of K_p·K_q components, that of the pair (a, b) at a·K_q + b, with normalised logits;
      differentiable in all leaves.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Bromiley (2003), "Products and convolutions of Gaussian probability density functions".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.ones((1, 1)), jnp.full(1, 3.0))
      >>> total = gmmjax.convolve(p, p._replace(scale=jnp.full(1, 4.0)))
      >>> print(total.means, total.scale)
      [[2.]] [5.]
    """
    return _convolve(*common_float(p=p, q=q))


@jax.jit
def _convolve(p, q):
    means = p.means[:, None] + q.means[None]
    factors = _pair_factors(p, q)
    if is_full(p, q):
        scale = triangular.lower_factor(jnp.concatenate(factors, axis=-1))
    else:
        scale = jnp.hypot(*factors)
    return components.of_pairs(p, q, _pair_logits(p, q), means, scale)


def _diagonal_product(p, q):
    """Means `(K_p, K_q, D)` and deviations `(K_p or 1, K_q or 1, D or 1)` of products."""
    a, b = _pair_factors(p, q)
    ratio = (a / b) ** 2
    share = 1 / (1 + ratio)
    # Not 1 − share, which loses the digits of a narrow component far from a broad one.
    other = 1 / (1 + 1 / ratio)
    means = share * p.means[:, None] + other * q.means[None]
    return means, jnp.abs(a) * jnp.sqrt(share)


def _full_product(p, q):
    """Means `(K_p, K_q, D)` and lower factors `(K_p or 1, K_q or 1, D, D)` of products."""
    inverse = scales.inverse(q.scale, q.means)
    ratio = components.relative_scale(p.scale, p.means, inverse, q.means)  # R = L_b⁻¹L_a
    shift = components.shifts(p, q, inverse)
    # The precision is L_a⁻ᵀ(1 + RᵀR)L_a⁻¹ = NᵀN with N = G L_a⁻¹ and 1 + RᵀR = GᵀG, G lower: it
    # is the usual factor with all axes reversed, and never formed, which would square conditions.
    identity = jnp.broadcast_to(jnp.eye(p.dim, dtype=ratio.dtype), ratio.shape)
    rows = jnp.concatenate([identity, ratio.mT], axis=-1)
    core = triangular.lower_factor(rows[..., ::-1, :])[..., ::-1, ::-1].mT
    inner = triangular.tril_inverse(core)
    scale = linalg.matmul(scales.dense_factors(p.scale, p.means)[:, None], inner)
    pull = linalg.matvec(ratio.mT, shift)
    means = p.means[:, None] - linalg.matvec(scale, linalg.matvec(inner.mT, pull))
    return means, scale


def _pair_logits(p, q):
    """Normalised, of all pairs, `(K_p·K_q,)`."""
    table = log_softmax(p.logits)[:, None] + log_softmax(q.logits)[None]
    return table.reshape(-1)


def _pair_factors(p, q):
    """The factors of either side for each pair: `(K_p or 1, K_q or 1, D, D)` lower ones.

    Standard deviations `(…, D or 1)` where neither side is full.
    """
    if not is_full(p, q):
        a, b = (g.scale.reshape(len(g.scale), -1) for g in (p, q))
        return a[:, None], b[None]
    a, b = (scales.dense_factors(g.scale, g.means) for g in (p, q))
    pairs = (len(a), len(b), *a.shape[1:])
    return jnp.broadcast_to(a[:, None], pairs), jnp.broadcast_to(b[None], pairs)


def _flat(table, shape=None):
    """Pairs row after row, of a table that is first broadcast to some shape of pairs."""
    if shape is not None:
        shape += table.shape[3:]
        table = jnp.broadcast_to(table, shape)
    return table.reshape(-1, *table.shape[2:])
