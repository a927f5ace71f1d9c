"""Importance diagnostics against closed forms of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gmmjax

Q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones((1, 2)))


def normal(x, deviation):
    """Log-density of N(0, s² I) with log Z = 3."""
    return gmmjax.log_prob(Q._replace(scale=deviation * Q.scale), x) + 3.0


@pytest.mark.parametrize("deviation", [0.7, 0.9, 1.1])
def test_agrees_with_closed_forms(deviation, key):
    found = gmmjax.importance_diagnostics(key, Q, normal, args=(deviation,), num_samples=65_536)
    p = Q._replace(scale=deviation * Q.scale)
    share = 1 / (1 + gmmjax.gaussian_chi2(p, Q))
    assert found.ess / 65_536 == pytest.approx(float(share), rel=0.03)
    for estimate, truth in [
        (found.log_z, 3.0),
        (found.elbo, 3.0 - gmmjax.gaussian_kl(Q, p)),
        (found.eubo, 3.0 + gmmjax.gaussian_kl(p, Q)),
    ]:
        assert abs(estimate.value - truth) < 4 * estimate.stderr
        assert estimate.stderr < 0.02


def test_the_tail_has_the_shape_that_it_must(key):
    # In two dimensions ‖x‖²/2 is exponential under q, and w is an exponential of it: exactly
    # Pareto, of shape 1 − 1/s².
    for deviation, tolerance in [(1.3, 0.1), (2.0, 0.12), (4.0, 0.15)]:
        found = gmmjax.importance_diagnostics(key, Q, normal, args=(deviation,))
        assert found.khat == pytest.approx(1 - deviation**-2, abs=tolerance)
    narrow = gmmjax.importance_diagnostics(key, Q, normal, args=(0.5,))
    assert narrow.khat < 0.1


def test_the_target_itself_has_all_draws(key):
    found = gmmjax.importance_diagnostics(key, Q, normal, args=(1.0,), num_samples=1000)
    assert found.ess == pytest.approx(1000)
    assert found.khat == -np.inf
    for estimate in (found.log_z, found.elbo, found.eubo):
        assert estimate.value == pytest.approx(3.0)
        assert 0 < estimate.stderr < 1e-8


def test_lifts(key):
    run = lambda key: gmmjax.importance_diagnostics(key, Q, normal, args=(1.2,), num_samples=256)
    batch = jax.jit(jax.vmap(run))(jax.random.split(key, 3))
    np.testing.assert_allclose(batch.ess[1], run(jax.random.split(key, 3)[1]).ess, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 10}, "num_samples: expected at least 25"),
        ({"log_density": lambda x: x}, "log_density: expected values of shape"),
        ({"q": 3}, "q: expected a gmmjax.GMM"),
    ],
)
def test_bad_arguments_are_named(options, message, key):
    with pytest.raises((ValueError, TypeError), match=message):
        gmmjax.importance_diagnostics(
            **{"key": key, "q": Q, "log_density": lambda x: x[:, 0], **options}
        )


def test_one_line_says_what_was_seen(key):
    found = gmmjax.importance_diagnostics(key, Q, normal, args=(1.2,))
    assert str(found).startswith(f"ESS {found.ess:,.0f}, k̂ {found.khat:.2f}, ELBO {found.elbo}, ")
    assert str(found).endswith(", all as seen from q")
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), found)
    assert str(batch).startswith("ImportanceDiagnostics(ess=")


@pytest.mark.parametrize(
    "undefined", [lambda x: jnp.nan * x[:, 0], lambda x: jnp.full(len(x), jnp.nan)]
)
def test_a_density_that_is_no_number_is_no_good_sign(undefined, key):
    def partly(x):
        return jnp.where(x[:, 0] > 0.5, undefined(x), normal(x, 1.0))

    for density, count in ((undefined, "1000"), (partly, r"\d\d\d")):
        with pytest.warns(UserWarning, match=f"log_density is NaN at {count} of 1000 draws"):
            found = gmmjax.importance_diagnostics(key, Q, density, num_samples=1000)
        assert all(np.isnan(leaf) for leaf in jax.tree.leaves(found))


def test_a_density_that_is_nowhere_has_no_shape(key):
    found = gmmjax.importance_diagnostics(key, Q, lambda x: x[:, 0] - jnp.inf)
    assert np.isnan(found.khat)
    assert np.isnan(found.eubo.value)
    assert found.log_z.value == -jnp.inf


def test_a_target_with_an_edge(key):
    def in_a_box(x):
        return jnp.where(jnp.all(jnp.abs(x) < 2, axis=1), -jnp.log(16.0), -jnp.inf)

    found = gmmjax.importance_diagnostics(key, Q._replace(scale=2 * Q.scale), in_a_box)
    assert found.elbo == (-jnp.inf, jnp.inf)
    assert abs(found.log_z.value) < 4 * found.log_z.stderr < 0.1
    assert jnp.isfinite(found.eubo.stderr)
