"""Derivatives in both modes against differences of the values, by one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np


def check_gradients(function, arguments, step=1e-6, rtol=1e-4, atol=1e-6):
    """Along a random direction; arguments are a tuple of trees, in double precision."""
    arguments = jax.tree.map(jnp.asarray, arguments)
    rng = np.random.default_rng(0)

    def randomly(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=jnp.shape(leaf))), tree)

    @jax.jit
    def run(arguments, covector):
        values, forward = jax.linearize(function, *arguments)
        backward = jax.linear_transpose(forward, *arguments)
        return values, forward(*direction), backward(covector)

    direction = randomly(arguments)
    covector = randomly(jax.eval_shape(function, *arguments))

    def at(h):
        moved = jax.tree.map(lambda leaf, d: leaf + h * d, arguments, direction)
        return run(moved, covector)[0]

    _, forward, backward = run(arguments, covector)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    jax.tree.map(lambda a, b, d: close(d, (a - b) / (2 * step)), at(step), at(-step), forward)
    np.testing.assert_allclose(inner(covector, forward), inner(backward, direction), rtol=1e-8)


def inner(a, b):
    return sum(np.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))
