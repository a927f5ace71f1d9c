"""One Gaussian against one Gaussian, for every pair of components of two mixtures at once."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._matrices import linalg, scales, whitening
from gmmjax._mixture import density
from gmmjax._mixture.density import Prepared
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.structure import is_full, is_spherical

# So many pairs of components have tables of their own; with more, what is linear has to do.
MAX_PAIRS = 1 << 21


class Relation(NamedTuple):
    """Where components p_a lie in the coordinates in which components q_b are standard normal."""

    shift: jax.Array  # (K_p, K_q, D) L_b⁻¹(μ_a − μ_b)
    variances: jax.Array  # (K_p or 1, K_q or 1, D or 1), the diagonals of L_b⁻¹Σ_a L_b⁻ᵀ

    @property
    def expected_distances(self) -> jax.Array:
        """E[‖L_b⁻¹(x − μ_b)‖²] under each component p_a, `(K_p, K_q)`."""
        spread = sum_coordinates(self.variances, self.shift.shape[-1])
        return spread + jnp.sum(self.shift**2, axis=-1)


def relate(p: GMM, q: Prepared) -> Relation:
    """Every component of p to every one of q."""
    shift = shifts(p, q.mixture, q.inverse)
    full_p, full_q = is_full(p), q.inverse.ndim > q.mixture.means.ndim
    if not full_q:
        squares = jnp.sum(p.scale**2, axis=-1) if full_p else p.scale**2
        squares = squares.reshape(len(squares), 1, -1)
        return Relation(shift, squares * (q.inverse**2).reshape(1, len(q.inverse), -1))
    # Flat products: one for every pair would be several times slower on a CPU.
    if not full_p:
        squares = (p.scale**2).reshape(len(p.scale), -1)
        squares = jnp.broadcast_to(squares, (len(squares), p.dim))
        columns = jnp.moveaxis(q.inverse**2, 2, 0).reshape(p.dim, -1)
        variances = linalg.matmul(squares, columns)
        return Relation(shift, variances.reshape(len(squares), len(q.inverse), p.dim))
    return Relation(shift, _full_variances(p.scale, q.inverse))


def relate_all(p: GMM, others: Sequence[Prepared]) -> list[Relation] | None:
    """Every component of p to every one of others, or None where these are too many pairs."""
    if are_many(p, *(q.mixture for q in others)):
        return None
    return [relate(p, q) for q in others]


def are_many(p: GMM, *others: GMM) -> bool:
    """Whether components of p make too many pairs with those of others for tables of pairs."""
    return p.num_components * sum(q.num_components for q in others) > MAX_PAIRS


def _full_variances(scale, inverse):
    """The diagonals of L_b⁻¹ L_a L_aᵀ L_b⁻ᵀ for full factors, `(K_a, K_b, D)`."""
    # Squares of a product and not a product of squares: precisions and covariances square the
    # condition number.
    dim = scale.shape[-1]
    parts = []
    for a, b in whitening.cuts(dim):
        rows = scale[:, a:, a:b].mT.reshape(-1, dim - a)
        columns = jnp.moveaxis(inverse[:, a:, a:], 2, 0).reshape(dim - a, -1)
        product = linalg.matmul(rows, columns).reshape(-1, b - a, len(inverse), dim - a)
        squares = jnp.sum(product**2, axis=1)
        parts.append(jnp.pad(squares, ((0, 0), (0, 0), (a, 0))) if a else squares)
    return functools.reduce(jnp.add, parts)


def entropies(p: GMM) -> jax.Array:
    """Differential entropy of each component, `(K,)`."""
    constant = 0.5 * p.dim * jnp.log(2 * jnp.pi * jnp.e).astype(p.means.dtype)
    return jnp.broadcast_to(constant + scales.log_abs_det(p.scale, p.means), p.logits.shape)


def shifts(p: GMM, q: GMM, inverse: jax.Array) -> jax.Array:
    """L_b⁻¹(μ_a − μ_b), `(K_p, K_q, D)`, for inverse factors of q."""
    return jnp.moveaxis(whitening.whiten(inverse, q.means, p.means.T), -1, 0)


def pairwise_kl(p: GMM, q: GMM) -> jax.Array:
    """KL(p_a ‖ q_b) of the components of two checked mixtures, `(K_p, K_q)`, without weights."""
    distances = relate(p, density.prepare(q)).expected_distances
    of_p = scales.log_abs_det(p.scale, p.means)[:, None]
    return scales.log_abs_det(q.scale, q.means)[None] - of_p + 0.5 * (distances - p.dim)


def relative_scale(scale, means, inverse, other_means):
    """M_b L_a of factors L_a and inverse factors M_b, `(K_a|1, K_b|1, D, D)`.

    Where both are diagonal it is `(K_a|1, K_b|1, D|1)`.
    """
    if scale.ndim > means.ndim and inverse.ndim > other_means.ndim:
        return linalg.matmul(inverse[None], scale[:, None])
    deviations = scale.reshape(scale.shape[0], 1, -1)
    rates = inverse.reshape(1, inverse.shape[0], -1)
    if scale.ndim > means.ndim:
        return rates[..., None] * scale[:, None]
    if inverse.ndim > other_means.ndim:
        return inverse[None] * deviations[:, :, None]
    return rates * deviations


def sum_coordinates(values, dim):
    """Sum over the last axis, where an axis of 1 stands for `dim` equal coordinates."""
    return jnp.sum(values, axis=-1) * (dim // values.shape[-1])


def of_pairs(p: GMM, q: GMM, logits: jax.Array, means: jax.Array, scale: jax.Array) -> GMM:
    """A mixture of a component for each pair, `(K_p, K_q, …)`, row after row."""
    structure = () if is_spherical(p, q) else scale.shape[2:]
    if scale.shape[:2] != (1, 1):
        pairs = (p.num_components, q.num_components)
        scale = jnp.broadcast_to(scale, pairs + scale.shape[2:])
    return GMM(logits, means.reshape(-1, p.dim), scale.reshape(-1, *structure))
