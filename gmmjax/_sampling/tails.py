"""Where the tails of one mixture are too heavy for a ratio to another: found by looking along
directions.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import components, linalg
from gmmjax._mixture.gmm import GMM

# of the power method: a direction that is not quite the widest proves no less, if it proves anything
STEPS = 40


def have_infinite_variance(p: GMM, q: GMM, alpha: jax.Array) -> jax.Array:
    """Whether the variance of ∫ p^α q^(1−α), α > 1, sampled from ½(p + q), is infinite along one of
    some directions.

    Along u the logarithms of p and q fall like −½ a r² and −½ b r², with a = min_k ‖L_k⁻¹u‖² over
    the components of p, and b over those of q. Points come from normals that are s = 1 + 2/D² times
    as wide as the components, and the mean square (p^α q^(1−α))²/m is finite only where (2α − 1/s)
    a > (2α − 2) b. It is never said of a finite one; an infinite one is missed where it takes
    several components of q to hide the direction.
    """
    p, q = jax.tree.map(jax.lax.stop_gradient, (p, q))
    u = _directions(p, q)
    a, b = (_fall(g, u) for g in (p, q))
    wider = 1 + 2 / p.dim**2
    return jnp.any((2 * alpha - 1 / wider) * a <= (2 * alpha - 2) * b)


def _fall(g, u):
    """min_k ‖L_k⁻¹u‖² for directions `(D, n)`, as `(n,)`."""
    table = linalg.squared_distances(
        linalg.inverse_scale(g.scale, g.means), jnp.zeros_like(g.means), u
    )
    return jnp.min(jnp.where(g.logits[:, None] > -jnp.inf, table, jnp.inf), axis=0)


def _directions(p, q):
    """For each pair of components, about the direction in which that of q is the narrowest of all,
    `(D, pairs)`.
    """
    ratio = components.relative_scale(
        p.scale, p.means, linalg.inverse_scale(q.scale, q.means), q.means
    )
    square = ratio * ratio if ratio.ndim == 3 else linalg.matmul(ratio.mT, ratio)

    def step(_, y):
        y = square * y if ratio.ndim == 3 else linalg.matmul(square, y[..., None])[..., 0]
        return y / jnp.max(jnp.abs(y), axis=-1, keepdims=True)

    start = np.random.default_rng(p.dim).normal(size=p.dim).reshape(1, 1, p.dim)
    start = jnp.broadcast_to(jnp.asarray(start, ratio.dtype), (*ratio.shape[:2], p.dim))
    y = jax.lax.fori_loop(0, STEPS, step, start)
    if p.scale.ndim > p.means.ndim:
        u = linalg.matmul(p.scale[:, None], y[..., None])[..., 0]
    else:
        u = p.scale.reshape(p.scale.shape[0], 1, -1) * y
    return u.reshape(-1, p.dim).T
