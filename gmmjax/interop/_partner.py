"""What conversions share: whose object it is, and parameters as other libraries want them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._jax import is_traced
from gmmjax._logs import log_softmax
from gmmjax._matrices import linalg
from gmmjax._mixture.gmm import GMM, as_float, index


def belongs_to(obj, package: str, *names: str) -> bool:
    """Whether the class of `obj`, or one it extends, is of a package, and has one of these names
    if any are given.
    """
    if isinstance(obj, type):
        return False
    of_package = [c for c in type(obj).__mro__ if c.__module__.split(".")[0] == package]
    return any(not names or c.__name__ in names for c in of_package)


def describe(obj) -> str:
    """The type of an object, for messages."""
    kind = obj if isinstance(obj, type) else type(obj)
    return f"{kind.__module__.split('.')[0]}'s {kind.__name__}"


def load(module: str, package: str, needed_by: str):
    """Import a partner's module, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{needed_by} needs {package}: pip install {package}") from error


def as_array(value) -> jax.Array:
    """An array of JAX from one of any library."""
    return jnp.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def untied(g: GMM) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised logits `(K,)`, means `(K, D)`, and positive factors `(K, D, D)` or deviations
    `(K, D)`.

    Absent components are dropped, for other libraries refuse logits of −inf; traced ones cannot be
    told.
    """
    g = as_float("g", g)
    count, dim = g.means.shape
    if g.scale.ndim == 3:
        signs = jnp.sign(linalg.diagonal(g.scale))
        scale = jnp.broadcast_to(g.scale * signs[:, None, :], (count, dim, dim))
    else:
        deviations = jnp.abs(g.scale).reshape(g.scale.shape[0], -1)
        scale = jnp.broadcast_to(deviations, (count, dim))
    leaves = log_softmax(g.logits), g.means, scale
    if is_traced(g.logits):
        return leaves
    present = np.flatnonzero(np.asarray(g.logits) > -np.inf)
    return index(leaves, present)
