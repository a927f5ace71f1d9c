"""Standard normal numbers of uniform words."""

import jax
import jax.numpy as jnp

# With w = −log(1 − x²), the quantile of x = 2u − 1 is x √S(w), and S grows from π/2 nearly like 2w,
# so that one quotient of polynomials serves the body and both tails. Fitted to exact values by
# least squares whose weights were changed until the largest errors were alike (Lawson 1961); S is
# right within ε exp(w/2), ε = 2e-8 and 2e-15, and so nothing is wrong that has a noticeable mass.
# Coefficients from the lowest power to the highest; all are positive, and no digit cancels.
_SINGLE = (
    (
        1.57079630145115895,
        0.986816657475532035,
        0.287811775283059931,
        0.0503720428453786544,
        0.00558338856137292812,
        0.00038123912574213711,
    ),
    (
        1.0,
        0.104627456056708779,
        0.0338463031835739579,
        0.00288028038908827457,
        0.000197072091073155896,
    ),
)
_DOUBLE = (
    (
        1.57079632679489963,
        1.10633670470912713,
        0.379150584351649529,
        0.085519396974645514,
        0.0144162840647468279,
        0.00194221892862016619,
        0.000216232822692779826,
        0.0000200569428588501661,
        1.53120103408404038e-6,
        9.38087967736151931e-8,
        4.49093942542696325e-9,
        1.68200598083199773e-10,
    ),
    (
        1.0,
        0.180717045515732371,
        0.0521485415863992883,
        0.00848825457870448015,
        0.00101779444615926374,
        0.000129481235799165993,
        0.000010341930579827068,
        8.70312134107066123e-7,
        4.88320112230264932e-8,
        2.4435482909151836e-9,
        8.43195706100580172e-11,
    ),
)


def normal(bits: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Standard normal numbers of as many uniform words, symmetric and finite."""
    return _quantiles(_centred(bits, dtype))


def _centred(bits, dtype):
    """Odd multiples of 2⁻ᵐ in (−1, 1): exact, symmetric, never ±1, whose quantile is infinite."""
    mantissa, signed = (53, jnp.int64) if dtype == jnp.float64 else (24, jnp.int32)
    odd = (bits >> (8 * bits.dtype.itemsize - mantissa)).astype(signed) * 2 + 1 - (1 << mantissa)
    return odd.astype(dtype) * 2.0**-mantissa


def _quantiles(x):
    """Φ⁻¹((1 + x)/2)."""
    # A third of the time of erf⁻¹, whose two or three polynomials are all evaluated.
    above, below = _DOUBLE if x.dtype == jnp.float64 else _SINGLE
    w = -jnp.log((1 - x) * (1 + x))
    return x * jnp.sqrt(_polynomial(above, w) / _polynomial(below, w))


def _polynomial(coefficients, w):
    *rest, total = coefficients
    for coefficient in reversed(rest):
        total = total * w + coefficient
    return total
