"""When a descent has arrived, by numbers: a rule five times laxer stops where these still go on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gmmjax._fitting import stopping
from gmmjax._mixture.unconstrained import Unconstrained
from gmmjax._sampling.estimate import Estimate


def window(gradients):
    """Of steps with these gradients in one parameter, of loss 2 and standard error 0.3."""
    found = stopping.empty_window(Unconstrained(jnp.zeros(1), jnp.zeros((1, 1)), jnp.zeros(1)))
    for gradient in gradients:
        moved = Unconstrained(jnp.zeros(1), jnp.full((1, 1), gradient), jnp.zeros(1))
        found = stopping.extend(found, Estimate(jnp.asarray(2.0), jnp.asarray(0.3)), moved)
    return found


def around(mean):
    """Nine gradients of that mean, whose mean has the standard error 1."""
    noise = np.arange(-4.0, 5.0)
    return mean + noise * (np.sqrt(9 * 8) / np.linalg.norm(noise))


NOISE = window(around(0.0))


def arrived(progress, found=NOISE, common=False):
    before, now = Estimate(2.0 + progress, 0.3), Estimate(jnp.asarray(2.0), 0.4)
    return stopping.has_arrived(found, jax.tree.map(jnp.asarray, before), now, common)


def test_progress_beyond_its_standard_error_goes_on():
    assert arrived(0.49)
    assert not arrived(0.51)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_gradient_beyond_its_standard_error_goes_on(sign):
    assert arrived(0.0, window(sign * around(0.99)))
    assert not arrived(0.0, window(sign * around(1.01)))
    assert arrived(0.0, window(sign * around(1.01)), common=True)  # which says nothing then


def test_the_first_window_never_ends_a_fit():
    assert not arrived(jnp.nan)
    assert not arrived(jnp.inf)


def test_the_mean_of_a_window():
    value, stderr = stopping.mean_loss(NOISE, False)
    np.testing.assert_allclose((value, stderr), (2.0, 0.1))
    value, stderr = stopping.mean_loss(NOISE, True)
    np.testing.assert_allclose((value, stderr), (2.0, 0.003))
