"""The bootstrap: against theory, for every kind of function, and what it says where it fails.

How often intervals cover is measured in `tests/benchmarks/coverage.py`.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._populations.interval import Range, conclude

SHIFT, ROWS = 1.5, 400
kl = functools.partial(gmmjax.kl_divergence, num_samples=256, num_replicates=4)


def gaussian(mean):
    return gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), mean), jnp.ones((1, 1)))


@pytest.fixture(scope="module")
def data():
    keys = jax.random.split(jax.random.key(0))
    return [gmmjax.sample(k, gaussian(m), ROWS) for k, m in zip(keys, (0.0, SHIFT), strict=True)]


@pytest.fixture(scope="module")
def found(data):
    x, y = data
    return gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y)


def plug_in(data):
    """KL of the two Gaussians of maximal likelihood."""
    (a, s), (b, t) = ((float(x.mean()), float(x.std())) for x in data)
    return np.log(t / s) + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5


def test_the_value_is_that_of_the_fits_less_the_bias(data, found):
    assert found.value + found.bias == pytest.approx(plug_in(data), rel=1e-3)


def test_error_and_bias_are_those_of_theory(found):
    """By the delta method at N(0, 1) and N(m, 1), to second order for the bias."""
    m2 = SHIFT**2
    stderr = np.sqrt((2 * m2 + m2**2 / 2) / ROWS)
    assert found.stderr == pytest.approx(stderr, rel=0.25)
    assert found.bias == pytest.approx((2 + 1.5 * m2) / ROWS, abs=3 * stderr / np.sqrt(200))


def test_the_interval_holds_the_truth_and_grows_with_the_level(data, found):
    assert found.lower < SHIFT**2 / 2 < found.upper
    assert found.lower < found.value < found.upper
    x, y = data
    wider = gmmjax.bootstrap(
        kl, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y, level=0.99
    )
    assert wider.value == found.value
    assert wider.lower < found.lower < found.upper < wider.upper


def test_starts_lead_to_the_same_maximum(data, found):
    """And a mixture need not be the very fit of its rows."""
    x, y = data
    other = gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.3), x, gaussian(1.0), y)
    assert other.value == pytest.approx(float(found.value))


def test_rows_far_from_those_of_a_mixture_would_not(data, found):
    """The twin: rows that are exchanged give another divergence, and that is told."""
    x, y = data
    of_p = pytest.warns(UserWarning, match="p does not look like a fit to x")
    of_q = pytest.warns(UserWarning, match="q does not look like a fit to y")
    with of_p, of_q:
        other = gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.0), y, gaussian(SHIFT), x)
    assert abs(other.value - found.value) > 1e-3


def test_the_noise_of_the_integral_does_not_enter(data, found):
    """It moves the value by half of its error here, and hardly that error."""
    x, y = data
    few = functools.partial(
        gmmjax.kl_divergence, num_samples=32, points=gmmjax.iid, control_variate=False
    )
    rough = gmmjax.bootstrap(few, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y)
    assert abs(rough.value - found.value) > 0.5 * found.stderr
    assert rough.stderr == pytest.approx(float(found.stderr), rel=0.2)


@pytest.mark.parametrize(
    "function", [gmmjax.ise, gmmjax.gaussian_kl, lambda p, q: jnp.float64(3.0)]
)
def test_functions_without_a_key(function, data):
    x, y = data
    found = gmmjax.bootstrap(
        function, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y, num_resamples=40
    )
    assert found.lower <= found.value <= found.upper


def test_a_function_of_one_mixture(data):
    entropy = functools.partial(gmmjax.entropy, num_samples=256)
    found = gmmjax.bootstrap(entropy, jax.random.key(1), gaussian(0.0), data[0])
    # the variance of log σ is 1 / 2N
    assert found.stderr == pytest.approx(np.sqrt(1 / (2 * ROWS)), rel=0.2)
    assert found.lower < 0.5 * np.log(2 * np.pi * np.e) < found.upper


def test_under_jit_and_vmap(data, found):
    def run(x, y):
        return gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y)

    batch = jax.jit(jax.vmap(run))(*(jnp.stack([z, z + 1.0]) for z in data))
    for leaf, expected in zip(batch, found, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-6)


@pytest.mark.parametrize("at_most", [np.inf, 1.0])
def test_a_range_is_kept(at_most):
    """Where a normal interval would leave it at both ends."""
    known = Range(True, at_most)
    angles = jnp.linspace(0.0, 1.2, 50)
    np.testing.assert_allclose(
        known.from_angle(known.to_angle(known.from_angle(angles))),
        known.from_angle(angles),
        rtol=1e-12,
    )
    values = jnp.linspace(0.0, 1.0, 101)
    found = conclude(jnp.asarray(0.5), values, 0.999, known)
    free = conclude(jnp.asarray(0.5), values, 0.999, Range(False, np.inf))
    assert free.lower < 0 == found.lower
    assert found.upper <= at_most
    assert free.upper > 1


def test_equal_populations_are_told():
    keys = jax.random.split(jax.random.key(3))
    x, y = (gmmjax.sample(k, gaussian(0.0), ROWS) for k in keys)
    with pytest.warns(UserWarning, match="bootstrap: the interval reaches 0"):
        found = gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.0), x, gaussian(0.0), y)
    assert found.lower == 0
    assert found.upper > 0


def test_few_rows_are_told(data):
    entropy = functools.partial(gmmjax.entropy, num_samples=256)
    with pytest.warns(UserWarning, match="bootstrap: x has 9 rows for the 2 parameters of p"):
        gmmjax.bootstrap(entropy, jax.random.key(1), gaussian(0.0), data[0][:9])


def test_collapse_is_told(data):
    x, y = data
    two = gmmjax.GMM(jnp.array([0.0, -5.0]), jnp.stack([x[0], x[1]]), jnp.array([[1.0], [1e-3]]))
    with pytest.warns(UserWarning, match="bootstrap: of p, .* collapse"):
        gmmjax.bootstrap(kl, jax.random.key(1), two, x, gaussian(SHIFT), y, num_resamples=40)


def test_nothing_is_told_of_what_is_sound(data):
    x, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gmmjax.bootstrap(kl, jax.random.key(1), gaussian(0.0), x, gaussian(SHIFT), y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": None}, "q, y: come together"),
        ({"y": None}, "q, y: come together"),
        ({"num_resamples": 1}, "num_resamples: expected at least 2"),
        ({"level": 1.0}, "level: expected a number below 1"),
        ({"level": 0.0}, "level: expected a number above 0"),
        ({"divergence": 3}, "divergence: expected a function"),
        ({"divergence": gmmjax.kl_bounds}, "divergence: expected an Estimate or a scalar"),
        ({"y": np.full((9, 1), np.nan)}, r"y: expected finite numbers, but row 0"),
        ({"q": random_mixture(0, 2, 2)}, "q: has dimension 2"),
        ({"key": 0}, "key: expected a JAX key"),
    ],
)
def test_bad_arguments_are_named(data, change, message):
    x, y = data
    given = {"divergence": kl, "key": jax.random.key(0), "p": gaussian(0.0), "x": x}
    given |= {"q": gaussian(SHIFT), "y": y, **change}
    with pytest.raises((TypeError, ValueError), match=message):
        gmmjax.bootstrap(**given)
