"""Names of JAX that it does not promise to keep, in one place."""

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


def is_traced(*values) -> bool:
    """Whether any leaf of these trees is traced: a value that `jit`, `grad` or `vmap` hides."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def evaluate(traced: ClosedJaxpr, constants, x):
    """The result of a traced function of one argument, with other constants in it."""
    return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(x)[0]
