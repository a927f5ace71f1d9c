"""What conversions share: whose object it is, and parameters as other libraries want them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gmmjax._mixture.gmm import GMM, as_float


def belongs_to(obj, package: str, *names: str) -> bool:
    """Whether the class of `obj`, or one that it extends, is of a package, and of one of these
    names if any.
    """
    classes = [] if isinstance(obj, type) else type(obj).__mro__
    return any(
        c.__module__.split(".")[0] == package and (not names or c.__name__ in names)
        for c in classes
    )


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
    """Normalised logits `(K,)`, means `(K, D)`, and `(K, D, D)` factors or `(K, D)` deviations, all
    positive.

    Absent components are dropped, for other libraries refuse logits of −inf; traced ones cannot be
    told.
    """
    g = as_float("g", g)
    count, dim = g.means.shape
    if g.scale.ndim == 3:
        signs = jnp.sign(jnp.diagonal(g.scale, axis1=1, axis2=2))
        scale = jnp.broadcast_to(g.scale * signs[:, None, :], (count, dim, dim))
    else:
        scale = jnp.broadcast_to(jnp.abs(g.scale).reshape(g.scale.shape[0], -1), (count, dim))
    leaves = jax.nn.log_softmax(g.logits), g.means, scale
    if isinstance(g.logits, Tracer):
        return leaves
    present = np.flatnonzero(np.asarray(g.logits) > -np.inf)
    return leaves[0][present], leaves[1][present], leaves[2][present]
