"""Lower bounds from one direction: below the truth, and above those of components that overlap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture

import gmmjax
from gmmjax._bounds import projection
from gmmjax._bounds.projection import js_integrand, kl_integrand, projected

DIVERGENCES = {
    "kl": (kl_integrand, gmmjax.kl_divergence, gmmjax.kl_quadrature),
    "js": (js_integrand, gmmjax.js_divergence, gmmjax.js_quadrature),
}
every = pytest.mark.parametrize("name", DIVERGENCES)


@functools.partial(jax.jit, static_argnums=2)
def lower(p, q, name):
    return jax.value_and_grad(lambda p, q: projected(DIVERGENCES[name][0], p, q), (0, 1))(p, q)


@every
def test_it_is_below_the_truth_and_close_on_a_line(name):
    """In one dimension there is but one direction, and only the noise loses something."""
    p, q = random_mixture(0, 3, 1, spread=0.7), random_mixture(50, 3, 1, spread=0.7)
    truth = DIVERGENCES[name][2](p, q)
    value, _ = lower(p, q, name)
    assert 0.99 * truth < value < truth
    single, _ = lower(*cast((p, q), jnp.float32), name)
    assert value - 1e-4 < single < value


@every
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_below_the_truth_where_components_overlap(name, kind, key):
    for seed in range(3):
        p, q = (random_mixture(seed + i, 3, 4, spread=0.5, kind=kind) for i in (0, 50))
        truth, stderr = DIVERGENCES[name][1](key, p, q, num_samples=4096)
        value, _ = lower(p, q, name)
        assert 0.02 * truth < value < truth + 4 * stderr


@every
def test_a_direction_that_is_known_is_found(name):
    """Two mixtures that differ in one direction only: the divergence there is all of it."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0] * np.array([1.0, 3.0, 0.5, 1.0])[:, None]
    line = [random_mixture(seed, 2, 1, spread=0.7, kind="diagonal") for seed in (0, 50)]
    sides = [
        gmmjax.affine(
            gmmjax.GMM(
                g.logits,
                jnp.concatenate([g.means, jnp.zeros((2, 3))], axis=1),
                jnp.concatenate([g.scale, jnp.ones((2, 3))], axis=1),
            ),
            rotation,
        )
        for g in line
    ]
    truth = DIVERGENCES[name][2](*line)
    value, _ = lower(*sides, name)
    assert 0.99 * truth < value < truth


@every
def test_equal_mixtures_have_no_divergence_and_no_gradient(name):
    p = random_mixture(0, 3, 4)
    value, gradient = lower(p, p, name)
    assert -1e-12 < value <= 0
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-10


def test_bounds_say_something_where_they_said_nothing():
    """The pair of the notebook: the truths are 2.349 and 0.283."""
    rng = np.random.default_rng(1)

    def mixture():
        factor = rng.normal(size=(3, 3, 3)) / 3**0.5
        weights, means = rng.dirichlet(np.full(3, 3.0)), rng.normal(size=(3, 3))
        covariances = 0.6 * factor @ factor.swapaxes(1, 2) + 0.4 * np.eye(3)
        return gmmjax.from_covariances(weights, means, covariances)

    p, q = mixture(), mixture()
    assert 1.35 < gmmjax.kl_bounds(p, q).lower < 2.349
    assert 0.136 < gmmjax.js_bounds(p, q).lower < 0.283


def test_what_the_sum_may_be_off_by_is_taken_off():
    """Half of its points would differ by so much, and rounding by some units."""
    terms = np.random.default_rng(0).uniform(size=len(projection.GRID))
    fine = projection.STEP * terms.sum()
    off = abs(fine - 2 * projection.STEP * terms[::2].sum())
    assert off > 1e-2
    logs = jnp.stack([terms, terms])
    found = projection._Densities(logs, logs, logs, logs, logs)
    value, _ = projection._total(lambda log_p, log_q: (log_p, log_p, log_q), found)
    rounding = 64 * np.finfo(float).eps * (1 + fine)
    np.testing.assert_allclose(fine - off - value, rounding, rtol=0.3)
