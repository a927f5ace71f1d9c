"""The quantile of the normal distribution that points are made with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gmmjax._matrices.linalg import matmul
from gmmjax._sampling import points
from gmmjax._sampling.normal import normal

DIGITS = {jnp.float32: (24, 1.5e-7), jnp.float64: (53, 7e-15)}


def words(mantissa, size):
    """Words whose leading bits say how far below 1 a uniform number is, from far to near."""
    steps = np.unique(np.geomspace(1, 2 ** (mantissa - 1) - 1, size).astype(np.uint64))
    unsigned = np.uint64 if mantissa == 53 else np.uint32
    return (steps << np.uint64(8 * unsigned().itemsize - mantissa)).astype(unsigned)


def exact(bits, mantissa):
    """The quantiles of the middles of 2ᵐ cells, all of them below the median."""
    cell = bits >> np.array(8 * bits.itemsize - mantissa, bits.dtype)
    return special.ndtri((cell.astype(float) + 0.5) / 2.0**mantissa)


@pytest.mark.parametrize("dtype", DIGITS)
def test_quantiles_are_those_of_scipy(dtype):
    """Right to rounding; in the tails to what their mass leaves of an error, e^(w/2) with the mass
    e⁻ʷ. One unit of the coarser type would be a thousand times as much.
    """
    mantissa, tolerance = DIGITS[dtype]
    bits = words(mantissa, 4000)
    expected = exact(bits, mantissa)
    found = np.asarray(jax.jit(normal, static_argnums=1)(bits, dtype), float)
    mass = special.ndtr(expected) * 2
    error = np.abs(found / expected - 1) * np.sqrt(mass)
    assert error.max() < tolerance
    assert error.max() > tolerance / 1000  # neither type is better than its digits
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("dtype", DIGITS)
def test_the_outermost_words_are_finite_and_opposite(dtype):
    unsigned = np.uint64 if dtype == jnp.float64 else np.uint32
    least, most = np.asarray(normal(np.array([0, np.iinfo(unsigned).max], unsigned), dtype))
    assert least == -most
    assert np.isfinite(most)
    assert most > 5


def test_words_are_hashed_once(key, monkeypatch):
    """However often a point is used; the twin shows that the compiler would do otherwise."""

    def norms(first):
        z, weight = points.sobol(key, first + jnp.arange(4), 0, 64, 3, jnp.float32)
        flat = z.reshape(3, -1)
        return [weight.ravel() @ flat.T, *(jnp.max(matmul(m, flat)) for m in np.ones((2, 5, 3)))]

    def steps():
        program = jax.jit(lambda first: norms(first)).lower(np.int32(0)).compile()
        return program.as_text().count(" xor(")

    once = steps()
    monkeypatch.setattr(points, "computed_once", lambda _, function, *words: function(*words))
    assert steps() > 1.5 * once > 0
