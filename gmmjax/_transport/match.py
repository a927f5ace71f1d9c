"""Which component of one mixture is which of another, and a mixture in another order."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._exact.gaussians import gaussian_kl
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, as_float, common_float
from gmmjax._pairs.components import pairwise_kl
from gmmjax._transport.transport import transport
from gmmjax._transport.wasserstein import gaussian_w2_squared, pairwise_w2_squared
from gmmjax._validate import check_function, keyless

# Functions of two Gaussians whose tables are at hand.
TABLES = {gaussian_w2_squared: pairwise_w2_squared, gaussian_kl: pairwise_kl}


@keyless
def match(p: GMM, q: GMM, *, cost: Callable = gaussian_w2_squared) -> jax.Array:
    r"""Which component of q is nearest to each of p, no two the same; exact.

    .. math:: \min_\sigma \sum_a \text{cost}(p_a, q_{\sigma(a)})

    An assignment, solved exactly: components that have changed places between two fits go back to
    where they were with `reorder(q, match(p, q))`. Weights play no part in it, but that present
    components are matched with present ones where there are enough.

    Args:
      p: a mixture of K_p components.
      q: a mixture of K_q ≥ K_p components, of the same dimension.
      cost: a function of two mixtures of one component each that gives a scalar, such as
        `gmmjax.gaussian_w2_squared`, `gaussian_kl` or `gaussian_bhattacharyya`; +inf forbids a
        pair. Pass the same function object again to avoid recompilation.

    Returns:
      `(K_p,)` indices of components of q, all different; −1 where costs are NaN.

    Raises:
      TypeError: `p` or `q` is not a `GMM`, or `cost` is not a function.
      ValueError: shapes disagree, q has fewer components than p, or `cost` gives no scalar, or NaN
        (under `jit` that cannot be checked).

    Reference:
      Kuhn (1955), "The Hungarian method for the assignment problem".

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [4.0], [9.0]]), jnp.ones(3))
      >>> q = gmmjax.GMM(jnp.zeros(3), jnp.array([[8.0], [1.0], [3.0]]), jnp.ones(3))
      >>> order = gmmjax.match(p, q)
      >>> print(order, gmmjax.reorder(q, order).means.ravel())
      [1 2 0] [1. 3. 8.]
    """
    p, q = common_float(p=p, q=q)
    check_function("cost", cost)
    if q.num_components < p.num_components:
        raise ValueError(
            f"q: has {q.num_components} components, fewer than the {p.num_components} of p, "
            "which cannot all be matched"
        )
    table = _table(p, q, cost)
    if not is_traced(table) and np.isnan(table).any():
        a, b = np.argwhere(np.isnan(table))[0]
        raise ValueError(f"cost: is NaN between component {a} of p and component {b} of q")
    return _assign(p.logits > -jnp.inf, q.logits > -jnp.inf, table)


@jax.jit(static_argnums=2)
def _table(p, q, cost):
    """Costs of all pairs of components, `(K_p, K_q)`."""
    if cost in TABLES:
        return TABLES[cost](p, q)
    over_q = jax.vmap(cost, in_axes=(None, 0))
    table = jax.vmap(over_q, in_axes=(0, None))(_one_by_one(p), _one_by_one(q))
    if jnp.shape(table) != (p.num_components, q.num_components):
        shape = jnp.shape(table)[2:]
        raise ValueError(f"cost: expected a scalar for two Gaussians, got shape {shape}")
    return table


def _one_by_one(g):
    """A batch of mixtures of one component each."""
    scale = jnp.broadcast_to(g.scale, (g.num_components, *g.scale.shape[1:]))
    return GMM(jnp.zeros((g.num_components, 1), scale.dtype), g.means[:, None], scale[:, None])


@jax.jit
def _assign(present_p: jax.Array, present_q: jax.Array, table: jax.Array) -> jax.Array:
    count, total = table.shape
    allowed = jnp.isfinite(table)
    # Absent components go with what is left; present ones take absent ones last of all, and a
    # forbidden partner never where another order forbids less.
    costs = jnp.where(allowed & present_p[:, None], table, 0.0)
    costs -= jnp.min(costs)
    unit = 2 * total * jnp.max(costs) + 1
    costs += jnp.where(present_p[:, None] & ~present_q[None], unit, 0.0)
    costs += jnp.where(~allowed & present_p[:, None], unit, 0.0)
    # Further rows that cost nothing take the columns that are left.
    square = jnp.concatenate([costs, jnp.zeros((total - count, total), costs.dtype)])
    ones = jnp.ones(total, costs.dtype)
    chosen = jnp.argmax(transport(square, ones, ones).coupling[:count], axis=1)
    return jnp.where(jnp.any(jnp.isnan(table)), -1, chosen)


def reorder(g: GMM, order: Sequence[int] | jax.Array) -> GMM:
    r"""The components of a mixture in another order; exact.

    Components that are not named are left out, and the others then share the whole weight. Tied
    scales stay tied.

    Args:
      g: a mixture of K components.
      order: `(K',)` indices of components, such as `match` gives; negative ones are refused.

    Returns:
      A `GMM` of K' components, differentiable in all leaves of `g`.

    Raises:
      TypeError: `g` is not a `GMM`.
      ValueError: its shapes disagree, or `order` is not a list of indices of its components (under
        `jit` one that does not exist gives NaN).

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> g = gmmjax.GMM(jnp.zeros(3), jnp.array([[0.0], [4.0], [9.0]]), jnp.ones(3))
      >>> print(gmmjax.reorder(g, [2, 0]).means.ravel())
      [9. 0.]
    """
    g = as_float("g", g)
    if not is_traced(order):
        _check_order(np.asarray(order), g.num_components)
    return _reorder(g, jnp.asarray(order))


def _check_order(order, count):
    if order.ndim != 1 or not order.size or not jnp.issubdtype(order.dtype, jnp.integer):
        raise ValueError(
            f"order: expected (K',) integers, got shape {order.shape} of {order.dtype}"
        )
    wrong = order[(order < 0) | (order >= count)]
    if wrong.size:
        raise ValueError(f"order: expected indices 0 … {count - 1}, got {wrong[0]}")


@jax.jit
def _reorder(g: GMM, order: jax.Array) -> GMM:
    logits, means = g.logits[order], g.means[order]
    exists = jnp.all((order >= 0) & (order < g.num_components))
    scale = g.scale[order] if len(g.scale) > 1 else g.scale
    return GMM(jnp.where(exists, logits, jnp.nan), means, scale)
