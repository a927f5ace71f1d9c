"""Components that come during a fit find modes, and what lies between and around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax
from gmmjax._variational import exploring, places


def far_modes():
    """Six normals in five dimensions, some forty deviations apart; log Z = 0."""
    rng = np.random.default_rng(0)
    means = jnp.asarray(rng.uniform(-40, 40, size=(6, 5)))
    scale = jnp.asarray(rng.uniform(0.5, 3, size=(6, 5)))
    target = gmmjax.GMM(jnp.zeros(6), means, scale)
    return lambda x: gmmjax.log_prob(target, x)


def heavy_tail():
    """A t distribution of two degrees of freedom in ten dimensions, far from 0; log Z = 0."""
    constant = jax.scipy.special.gammaln(6.0) - 5 * np.log(2 * np.pi)

    def log_density(x):
        squares = jnp.sum((x - 8.0) ** 2, axis=1)
        return constant - 6 * jnp.log1p(squares / 2)

    return log_density


def broad(dim, deviation):
    return gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, dim)), jnp.full((1, dim), deviation))


def fitted(log_density, dim, deviation, **options):
    """The loss of a fit whose program is its own, since the function is a new one."""
    key = jax.random.key(0)
    return gmmjax.fit_to_density(key, log_density, broad(dim, deviation), **options).loss


@pytest.mark.parametrize("explore", [True, False], ids=["holds", "can fail"])
def test_explorers_find_far_modes(explore, monkeypatch):
    """All six weigh a sixth; without explorers some of them are missed."""
    if not explore:
        monkeypatch.setattr(places, "explores", lambda turn: turn < 0)
    loss = fitted(far_modes(), 5, 25.0, num_steps=80, samples_per_component=50, max_components=12)
    found = loss.value < 0.05 + 4 * loss.stderr
    assert found == explore


@pytest.mark.parametrize("fastest", [exploring.FASTEST, 1.0], ids=["holds", "can fail"])
def test_heavy_tails_do_not_slow_the_way_down(fastest, monkeypatch):
    """Far out every step shrinks a component by a few per cent only, unless steps add up."""
    monkeypatch.setattr(exploring, "FASTEST", fastest)
    options = {"num_steps": 40, "samples_per_component": 50, "max_components": 8}
    loss = fitted(heavy_tail(), 10, 300.0, **options)
    assert (loss.value < 1.0) == (fastest > 1)
