"""Components as one, by their factors: a covariance has lost what those far apart are within."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._matrices import linalg, scales, triangular
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import factor_of_spread


class Join(NamedTuple):
    """Component i joined with each of all.

    The covariance of both together is r Σ_i + s Σ_j + r s δ δᵀ. It is never formed: of two that
    are far apart it has lost what they are within.
    """

    share: jax.Array  # (K,) s, of j in the weight of both
    apart: jax.Array  # (K, D) δ, from the mean of i to that of j
    scale: jax.Array  # (K, D, D) of each j
    own: jax.Array  # (K, D, D) of i, K times

    @staticmethod
    def of(g: GMM, i: jax.Array | int) -> "Join":
        """Component i of a mixture with each of its components."""
        w = jax.nn.softmax(g.logits)
        total = w[i] + w
        scale = as_full(g).scale
        return Join(
            # Two absent components meet in the middle.
            share=jnp.where(total > 0, linalg.safe_divide(w, total), 0.5),
            apart=g.means - g.means[i][None],
            scale=scale,
            own=jnp.broadcast_to(scale[i][None], scale.shape),
        )

    @property
    def rest(self) -> jax.Array:
        """The share r of i in the weight of both."""
        return 1 - self.share

    @property
    def spread(self) -> jax.Array:
        """How much of δ δᵀ is in the covariance of both."""
        return self.rest * self.share

    def factors(self, of_own: jax.Array, of_other: jax.Array) -> jax.Array:
        """The lower factors of a Σ_i + b Σ_j, for `(K,)` numbers a, b."""
        roots = [linalg.safe_sqrt(part)[:, None, None] for part in (of_own, of_other)]
        columns = [roots[0] * self.own, roots[1] * self.scale]
        return triangular.lower_factor(jnp.concatenate(columns, axis=2))

    def log_overlap(
        self, of_own: jax.Array, of_other: jax.Array, spread: jax.Array, apart: jax.Array
    ) -> jax.Array:
        """Log ∫ of two Gaussians whose covariances sum to a Σ_i + b Σ_j + c δ δᵀ, d δ apart."""
        factors = self.factors(of_own, of_other)
        square = squared_norm(factors, self.apart)
        beyond = 1 + spread * square
        log_det = 2 * jnp.sum(jnp.log(linalg.diagonal(factors)), axis=-1) + jnp.log(beyond)
        normaliser = self.apart.shape[1] * float(np.log(2 * np.pi)) + log_det
        return -0.5 * (normaliser + apart**2 * square / beyond)


def squared_norm(factors: jax.Array, vectors: jax.Array) -> jax.Array:
    """|L⁻¹v|² for `(K or 1, D, D)` and `(K, D)`."""
    white = linalg.matmul(triangular.tril_inverse(factors), vectors[:, :, None])[:, :, 0]
    return jnp.sum(white * white, axis=1)


def joined(g: GMM, i: jax.Array, j: jax.Array) -> GMM:
    """Components i and j of a full mixture as one in the place of i, and j absent."""
    join = Join.of(g, i)
    rest, share = join.rest[j], join.share[j]
    columns = [
        linalg.safe_sqrt(rest) * g.scale[i],
        linalg.safe_sqrt(share) * g.scale[j],
        linalg.safe_sqrt(rest * share) * join.apart[j][:, None],
    ]
    factor = triangular.lower_factor(jnp.concatenate(columns, axis=1))
    total = jnp.logaddexp(g.logits[i], g.logits[j])
    return GMM(
        g.logits.at[i].set(total).at[j].set(-jnp.inf),
        g.means.at[i].add(share * join.apart[j]),
        g.scale.at[i].set(factor),
    )


def pooled(p: GMM, labels: jax.Array, count: int) -> GMM:
    """The components of each label as one, with their weight, mean and covariance; full."""
    g = as_full(p)
    member = (labels[None] == jnp.arange(count)[:, None]).astype(g.means.dtype)
    weights = member * jax.nn.softmax(g.logits)[None]
    totals = jnp.sum(weights, axis=1)
    # Of components that are all absent, the midpoint.
    even = linalg.safe_divide(member, jnp.sum(member, axis=1)[:, None])
    share = jnp.where(totals[:, None] > 0, linalg.safe_divide(weights, totals[:, None]), even)
    means = linalg.matmul(share, g.means)

    def factor(pool):
        share, mean = pool
        return factor_of_spread(share, g.means - mean[None], g.scale)[0]

    logits = jnp.where(totals > 0, jnp.log(jnp.where(totals > 0, totals, 1.0)), -jnp.inf)
    return GMM(logits, means, jax.lax.map(factor, (share, means)))


def as_full(g: GMM) -> GMM:
    """The mixture with a lower factor for each component."""
    shape = g.num_components, g.dim, g.dim
    factors = scales.dense_factors(g.scale, g.means)
    return g._replace(scale=jnp.broadcast_to(factors, shape))
