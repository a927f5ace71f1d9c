"""Mixture reduction by merging the cheapest pair of components, again and again."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM, index
from gmmjax._reduction.parts import Parts, from_gmm, to_gmm


def greedy(p: GMM, num_merges, cost: Callable) -> tuple[Parts, jax.Array, jax.Array]:
    """Merge the cheapest pair `num_merges` times; one row of the table of costs changes per merge.

    Returns parts `(K, …)`, which of them are left, and where each component of `p` went.
    """

    def row(c, i):
        return jax.tree.leaves(cost(to_gmm(c), i))

    def merge(_, state):
        c, left, labels, table = state
        i, j = _cheapest(table, left)
        both = index(merged(c, i), j)
        c = jax.tree.map(lambda leaf, new: leaf.at[i].set(new), c, both)
        c = c._replace(weights=c.weights.at[j].set(0.0))
        left = left.at[j].set(False)
        labels = jnp.where(labels == j, i, labels)
        # Costs are symmetric.
        table = jax.tree.map(lambda costs, new: costs.at[i].set(new), table, row(c, i))
        table = jax.tree.map(lambda costs: costs.at[:, i].set(costs[i]), table)
        return c, left, labels, table

    c = from_gmm(p)
    places = jnp.arange(p.num_components)
    left = jnp.ones(p.num_components, bool)
    table = jax.lax.map(lambda i: row(c, i), places)
    c, left, labels, _ = jax.lax.fori_loop(0, num_merges, merge, (c, left, places, table))
    rank = jnp.cumsum(left) - 1
    return c, left, rank[labels]


def merged(c: Parts, i) -> Parts:
    """Component i merged with each of them: their common weight, mean and covariance."""
    total = c.weights[i] + c.weights
    # Two absent components merge into their midpoint.
    share = jnp.where(total > 0, linalg.safe_divide(c.weights, total), 0.5)[:, None]
    apart = c.means - c.means[i][None]
    means = c.means[i][None] + share * apart
    spread = apart[:, :, None] * apart[:, None, :]
    share = share[:, :, None]
    rest = 1 - share
    covariances = rest * c.covariances[i][None] + share * c.covariances + share * rest * spread
    return Parts(total, means, covariances)


def _cheapest(table: Sequence[jax.Array], left: jax.Array):
    """Indices of the cheapest pair that is left; a tuple of tables is compared as tuples are."""
    count = len(left)
    # The triangle is a constant: comparing two iotas takes XLA seconds to compile for a CPU.
    above = np.triu(np.ones((count, count), bool), 1)
    candidates = left[:, None] & left[None] & above
    for costs in table:
        least = jnp.min(jnp.where(candidates, costs, jnp.inf))
        # Ties up to rounding are ties.
        slack = 8 * jnp.finfo(costs.dtype).eps * jnp.abs(least)
        candidates &= costs <= least + slack
    return jnp.divmod(jnp.argmax(candidates), count)
