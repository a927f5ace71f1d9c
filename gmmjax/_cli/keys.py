"""Keys of commands."""

import jax
import numpy as np

from gmmjax._kept import kept_quickly


def seeded(seed: int) -> jax.Array:
    """`jax.random.key(seed)`, by a program of an earlier command where there is one."""
    return _key(np.asarray(seed, np.int64))


@kept_quickly
def _key(seed):
    return jax.random.key(seed)
