"""Wasserstein distances in closed form: between Gaussians, and between mixtures of them."""

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales, triangular, whitening
from gmmjax._mixture.gmm import GMM, common_singular
from gmmjax._mixture.structure import is_full
from gmmjax._properties import divergence
from gmmjax._transport.coupling import coupling
from gmmjax._transport.polar import rotations
from gmmjax._transport.transport import transport
from gmmjax._validate import keyless


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def gaussian_w2_squared(p: GMM, q: GMM) -> jax.Array:
    r"""Squared 2-Wasserstein (Bures) distance of two Gaussians; exact, in squared units of x.

    .. math::
      \|\mu_p - \mu_q\|^2 + \mathrm{tr}\,\Sigma_p + \mathrm{tr}\,\Sigma_q
      - 2\,\mathrm{tr}\,(\Sigma_p^{1/2} \Sigma_q \Sigma_p^{1/2})^{1/2}

    Computed without cancellation as :math:`\|\mu_p - \mu_q\|^2 + \|L_p U - L_q\|^2`, with U the
    orthogonal polar factor of :math:`L_p^\top L_q`: it is never negative, and 0 up to rounding at
    p = q. Singular Gaussians, whose scale has zeros on its diagonal, have it too. Its gradient is
    exact and finite everywhere (U is held fixed: envelope theorem); do not take second derivatives.

    Args:
      p: a Gaussian: a mixture of one component.
      q: a Gaussian of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree, or there is more than one component.

    Reference:
      Takatsu (2011), "Wasserstein geometry of Gaussian measures", equation 2; Bhatia, Jain and Lim
      (2019), "On the Bures-Wasserstein distance between positive definite matrices", theorem 1.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.array([[1.0, 1.0]]))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.ones((1, 2)), jnp.array([[1.0, 3.0]]))
      >>> print(gmmjax.gaussian_w2_squared(p, q))
      6.0
    """
    p, q = common_singular(p=p, q=q)
    for name, g in (("p", p), ("q", q)):
        if g.num_components != 1:
            raise ValueError(
                f"{name}: expected one Gaussian, got a mixture of {g.num_components} components; "
                "see gmmjax.mw2_squared for mixtures"
            )
    return _gaussian_w2_squared(p, q)


@jax.jit
def _gaussian_w2_squared(p, q):
    return pairwise_w2_squared(p, q)[0, 0]


@divergence(symmetric=True, zero_at_equality=True)
@keyless
def mw2_squared(p: GMM, q: GMM) -> jax.Array:
    r"""Squared mixture Wasserstein distance; exact, in squared units of x.

    .. math:: \min_\pi \sum_{ab} \pi_{ab}\, W_2^2(p_a, q_b)

    The optimal transport between two mixtures whose couplings are Gaussian mixtures themselves: an
    upper bound of the squared 2-Wasserstein distance, and a squared metric of mixtures. The
    discrete problem is solved exactly by shortest augmenting paths (up to rounding; made for up to
    a few hundred components), not by entropic smoothing.

    The gradient is exact in all leaves, by the envelope theorem: the optimal coupling weighs that
    of each pair of components, and its dual potentials are the gradient with respect to the
    weights. Where the optimum is not unique, as with equal weights, it is a subgradient. Do not
    take second derivatives.

    Args:
      p: a mixture.
      q: a mixture of the same dimension.

    Returns:
      A scalar.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Delon and Desolneux (2020), "A Wasserstein-type distance in the space of Gaussian mixture
      models", equation 4.4.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))
      >>> print(gmmjax.mw2_squared(p, q))
      8.0
    """
    return _mw2_squared(*common_singular(p=p, q=q))


@jax.jit
def _mw2_squared(p, q):
    cost, w, v = transport_problem(p, q)
    optimum = transport(cost, w, v)
    # These two are 0, and carry the derivative of the optimum with respect to the weights.
    through_w = jnp.vdot(optimum.f, w - jax.lax.stop_gradient(w))
    through_v = jnp.vdot(optimum.g, v - jax.lax.stop_gradient(v))
    return jnp.vdot(optimum.coupling, cost) + through_w + through_v


@keyless
def mw2_coupling(p: GMM, q: GMM) -> jax.Array:
    r"""Optimal coupling of the components of two mixtures; exact.

    It is the :math:`\pi` of `gmmjax.mw2_squared`. It is constant almost everywhere in means and
    scales. With the weights it changes along the pairs that already share mass, which is its
    gradient; where these fall into parts, as for equal weights, and a part cannot balance what
    changes in it, least squares decide.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q components, of the same dimension.

    Returns:
      `(K_p, K_q)` non-negative masses, with the weights of `p` as row sums and those of `q` as
      column sums; at most K_p + K_q − 1 are not 0.

    Raises:
      TypeError: `p` or `q` is not a `GMM`.
      ValueError: shapes disagree.

    Reference:
      Delon and Desolneux (2020), "A Wasserstein-type distance in the space of Gaussian mixture
      models", section 4.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.ones(2))
      >>> print(gmmjax.mw2_coupling(p, gmmjax.GMM(p.logits, p.means[::-1], p.scale)))
      [[0.  0.5]
       [0.5 0. ]]
    """
    return mw2_plan(*common_singular(p=p, q=q))


@jax.jit
def mw2_plan(p: GMM, q: GMM) -> jax.Array:
    """The coupling of two checked mixtures."""
    problem = transport_problem(p, q)
    zero_or_nan = 0 * sum(jnp.sum(part) for part in problem)  # NaN has no coupling
    return coupling(*problem) + zero_or_nan


def transport_problem(p: GMM, q: GMM):
    """Costs, supply and demand of mass between the components of two mixtures."""
    cost = pairwise_w2_squared(p, q)
    supply = jax.nn.softmax(p.logits)
    demand = jax.nn.softmax(q.logits)
    return cost, supply, demand


def pairwise_w2_squared(p: GMM, q: GMM) -> jax.Array:
    """W₂²(p_a, q_b) between the components of two checked mixtures, `(K_p, K_q)`."""
    unit = jnp.ones(1, q.means.dtype)
    distances = whitening.squared_distances(unit, q.means, p.means.T).T
    any_full = is_full(p, q)
    bures = _bures_full if any_full else _bures_diagonal
    return distances + bures(p, q)


def _bures_diagonal(p, q):
    """Σ_d (σ_ad − σ_bd)² of diagonal or spherical covariances, `(K_p or 1, K_q or 1)`."""
    a = jnp.abs(p.scale).reshape(len(p.scale), 1, -1)
    b = jnp.abs(q.scale).reshape(1, len(q.scale), -1)
    squares = (a - b) ** 2
    # One deviation stands for all coordinates where both are spherical.
    return jnp.sum(squares, axis=-1) * (p.dim // squares.shape[-1])


def _bures_full(p, q):
    """‖L_a U_ab − L_b‖² where at least one covariance is full, `(K_p or 1, K_q or 1)`."""
    factors_p = scales.dense_factors(p.scale, p.means)
    factors_q = scales.dense_factors(q.scale, q.means)
    inverses_q = triangular.tril_inverse(factors_q)

    def row(factor):
        rotation = rotations(*jax.lax.stop_gradient((factor, factors_q, inverses_q)))
        turned = linalg.matmul(factor[None], rotation)
        # What a singular product does not turn: Σ_p has it, and shares nothing of it with Σ_q.
        left = factor[None] - linalg.matmul(turned, rotation.mT)
        return jnp.sum((turned - factors_q) ** 2 + left**2, axis=(-2, -1))

    # One row at a time: all pairs at once would be K_p·K_q·D² numbers.
    return jax.lax.map(row, factors_p)
