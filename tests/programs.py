"""What a traced program does: its equations, and which of them make normal numbers."""

import jax.numpy as jnp


def inner_programs(equation):
    """The programs that one equation runs: bodies of loops, branches, calls."""
    for value in equation.params.values():
        for part in value if isinstance(value, tuple) else (value,):
            program = getattr(part, "jaxpr", part)
            if hasattr(program, "eqns"):
                yield program


def equations(program):
    """All equations, those of inner programs too."""
    for equation in program.eqns:
        yield equation
        for inner in inner_programs(equation):
            yield from equations(inner)


def makes_normals(equation):
    """Whether random words become signed numbers here, as they do on their way to a quantile."""
    if equation.primitive.name != "convert_element_type":
        return False
    (words,), (numbers,) = equation.invars, equation.outvars
    is_unsigned = jnp.issubdtype(words.aval.dtype, jnp.unsignedinteger)
    return is_unsigned and jnp.issubdtype(numbers.aval.dtype, jnp.signedinteger)
