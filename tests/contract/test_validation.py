"""Bad input gets an error that names the argument and shows what was seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax

W, M, C = [0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], np.stack([np.eye(2), np.eye(2)])
BAD = {
    "negative weight": ((([-0.1, 1.1]), M, C), "weights.*-0.1"),
    "NaN weight": (([np.nan, 1], M, C), "weights.*nan"),
    "no weight": (([0, 0], M, C), "weights: all 2 are 0"),
    "NaN mean": ((W, [[np.nan, 0], [1, 1]], C), "means.*nan"),
    "infinite mean": ((W, [[np.inf, 0], [1, 1]], C), "means.*inf"),
    "NaN covariance": ((W, M, C * np.nan), "covariances.*nan"),
    "asymmetric": (
        (W, M, C + np.array([[0, 0.1], [0, 0]])),
        "covariances: matrix 0 is not symmetric.*0.1",
    ),
    "not definite": (
        (W, M, C - 2 * np.eye(2)),
        "covariances: matrix 0 is not positive definite.*-1",
    ),
    "negative variance": ((W, M, [1.0, -1.0]), "covariances.*-1"),
    "counts disagree": (([1.0], M, C), r"weights.*\(1,\)"),
    "dimensions disagree": ((W, M, np.stack([np.eye(3)] * 2)), r"\(2, 3, 3\)"),
    "no components": ((np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2, 2))), r"means.*\(0, 2\)"),
    "no dimensions": ((W, np.zeros((2, 0)), np.zeros((2, 0, 0))), r"means.*\(2, 0\)"),
    "flat means": ((W, [0.0, 1.0], [1.0, 1.0]), r"means.*\(2,\)"),
    "tied matrix": ((np.ones(3), np.zeros((3, 2)), np.eye(2)), r"covariances\[None\]"),
    "complex": ((W, M, C * 1j), "covariances.*complex"),
}


@pytest.mark.parametrize("name", BAD)
def test_from_covariances(name):
    arguments, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        gmmjax.from_covariances(*arguments)
    gmmjax.from_covariances(W, M, C)  # and good input passes


def test_bad_values_under_jit_are_nan(key):
    """And where they are looked at, they are refused."""
    p = gmmjax.from_covariances(W, M, C)
    build = jax.jit(gmmjax.from_covariances)

    @jax.jit
    def estimates(*arguments):
        bad = build(*arguments)
        return [
            gmmjax.kl_divergence(key, bad, p, num_samples=64).value,
            gmmjax.kl_divergence(key, p, bad, num_samples=64).value,
            gmmjax.js_divergence(key, p, bad, num_samples=64).value,
        ]

    assert np.isfinite(estimates(*map(jnp.array, (W, M, C)))).all()
    for w, m, c in (
        ([-0.5, 1.5], M, C),
        ([np.nan, 1], M, C),
        (W, M, C - 2 * np.eye(2)),
        (W, [[np.nan, 0], [1, 1]], C),
    ):
        bad = build(*map(jnp.array, (w, m, c)))
        assert np.isnan(estimates(*map(jnp.array, (w, m, c)))).all()
        with pytest.raises(ValueError, match="p.(logits|means|scale): expected"):
            gmmjax.kl_divergence(key, bad, p, num_samples=64)


ASYMMETRIC = [[1.0, 0.5], [0.2, 1.0]]
G = gmmjax.from_covariances(W, M, C)


@pytest.mark.parametrize(
    ("call", "good", "bad"),
    [
        (lambda w: gmmjax.from_covariances(w, M, C), W, [-1.0, -2.0]),
        (lambda c: gmmjax.from_covariances(W, M, c[None]), np.eye(2), ASYMMETRIC),
        (lambda w: gmmjax.mix([G, G], w), W, [-1.0, -3.0]),
        (lambda a: gmmjax.affine(G, a), [[1.0, 0.0], [0.0, 1e-9]], [[1.0, 1.0], [1.0, 1.0]]),
        (
            lambda x: gmmjax.sample(jax.random.key(0), G._replace(logits=x), 3),
            [0.0, -np.inf],
            [0.0, np.nan],
        ),
        (
            lambda x: gmmjax.sample(jax.random.key(0), G._replace(logits=x), 3),
            [0.0, 0.0],
            [-np.inf, -np.inf],
        ),
        (
            lambda x: gmmjax.sample(jax.random.key(0), G._replace(logits=x), 3),
            [0.0, 0.0],
            [0.0, np.inf],
        ),
        (lambda x: gmmjax.mw2_coupling(G, G._replace(logits=x)), [0.0, 0.0], [0.0, np.nan]),
        (lambda h: gmmjax.mmd_squared(G, G, h), 1.0, -1.0),
        (lambda a: gmmjax.renyi_divergence(jax.random.key(0), G, G, a, num_samples=64), 0.5, -1.0),
        (
            lambda a: gmmjax.js_divergence(jax.random.key(0), G, G, weight=a, num_samples=64),
            0.5,
            1.3,
        ),
        (
            lambda w: gmmjax.generalised_js_divergence(
                jax.random.key(0), [G, G], w, num_samples=64
            ),
            W,
            [1.0, -1.0],
        ),
    ],
)
def test_bad_values_under_jit_are_never_plausible(call, good, bad):
    def first(x):
        return jax.tree.leaves(jax.jit(call)(jnp.array(x)))

    assert not np.isnan(np.concatenate([np.ravel(leaf) for leaf in first(good)])).any()
    assert np.isnan(np.concatenate([np.ravel(leaf) for leaf in first(bad)])).any()


@pytest.mark.parametrize("leaf", ["means", "scale"])
def test_a_component_at_infinity_is_nan(leaf, key):
    bad = G._replace(**{leaf: getattr(G, leaf).at[0].set(jnp.inf)})
    assert np.isnan(jax.jit(gmmjax.log_prob)(bad, jnp.zeros(2)))
    for call in (gmmjax.kl_variational, gmmjax.kl_product, gmmjax.kl_matched, gmmjax.kl_unscented):
        assert np.isnan(jax.jit(call)(G, bad))
        with pytest.raises(ValueError, match=f"q.{leaf}: expected finite values"):
            call(G, bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: gmmjax.renyi_divergence(k, G, G, "a"), "alpha: expected a scalar, got 'a'"),
        (lambda k: gmmjax.renyi_divergence(k, G, G, np.inf), "alpha: .* at most .*got inf"),
        (lambda k: gmmjax.mmd_squared(G, G, [1.0, 2.0]), "bandwidth: expected a scalar"),
        (
            lambda k: gmmjax.kl_divergence(k, G, G, points="sobol"),
            "points: expected a function, got 'sobol'",
        ),
        (lambda k: gmmjax.expectation(k, 3, G), "fn: expected a function, got 3"),
        (lambda k: gmmjax.kl_to_density(k, G, None), "log_density: expected a function, got None"),
        (
            lambda k: gmmjax.fit(k, lambda k, q: 0.0, G, optimizer="adam"),
            "optimizer: expected one of optax.*'adam'",
        ),
        (
            lambda k: gmmjax.gradient(gmmjax.kl_divergence, k, G, G, argnums=5),
            "argnums: there are 2 mixtures.*5",
        ),
        (lambda k: gmmjax.estimate_to(gmmjax.kl_divergence, k, G, G, rtol=-1.0), "rtol: .*-1"),
        (lambda k: gmmjax.estimate_to(gmmjax.kl_divergence, k, G, G, rtol=np.nan), "rtol: .*nan"),
        (lambda k: gmmjax.log_prob(G, ["a"]), "x: expected real numbers"),
        (
            lambda k: gmmjax.from_covariances(W, [[0.0], [1.0, 2.0]], C),
            "means: expected an array of numbers",
        ),
        (
            lambda k: gmmjax.marginal(G, [True, False]),
            "dims: expected ints, got booleans.*flatnonzero",
        ),
        (lambda k: gmmjax.affine(G, 1.0, np.nan), "b: expected finite"),
        (
            lambda k: gmmjax.generalised_js_divergence(k, [G, G], [1.0, 0.0]),
            "weights: expected finite and positive",
        ),
        (
            lambda k: gmmjax.f_divergence(k, G, G, jnp.sum),
            "generator: expected one value for each log-ratio",
        ),
        (
            lambda k: gmmjax.f_divergence(k, G, G, lambda u: (u - 1) ** 2 / (u + 1)),
            r"generator: takes t = log p − log q.*gives 1 there.*lambda t: f\(jnp.exp\(t\)\)",
        ),
        (
            lambda k: gmmjax.f_divergence(k, G, G, lambda u: u * jnp.log(u)),
            "generator: .*gives nan there",
        ),
        (
            lambda k: gmmjax.entropy(k, jax.tree.map(lambda x: x.astype(jnp.float16), G)),
            "p: .*float16",
        ),
        (lambda k: np.float64(2) * gmmjax.Estimate(1.0, 0.1), "use .value"),
        (lambda k: np.ones(2) + gmmjax.Estimate(1.0, 0.1), "use .value"),
        (lambda k: gmmjax.Estimate(1.0, 0.1) < gmmjax.Estimate(2.0, 0.1), "use .value"),
        (lambda k: np.float64(2) > gmmjax.Estimate(1.0, 0.1), "use .value"),
        (lambda k: float(gmmjax.Estimate(1.0, 0.1)), "use .value"),
        (lambda k: jnp.exp(gmmjax.Estimate(1.0, 0.1)), "use .value"),
        (lambda k: jax.grad(gmmjax.kl_divergence, 2)(k, G, G, num_samples=64), "has_aux=True"),
        (lambda k: gmmjax.ise(k, G, G), "key: ise is deterministic and takes no key"),
        (lambda k: gmmjax.kl_bounds(p=G, q=G, key=k), "key: kl_bounds is deterministic"),
    ],
)
def test_bad_arguments_are_named(call, message, key):
    with pytest.raises((TypeError, ValueError), match=message):
        call(key)


def test_any_integer_is_a_count(key):
    expected = gmmjax.kl_divergence(
        key, G, G._replace(means=1 + G.means), num_samples=64, num_replicates=8
    )
    for integer in (np.int64, np.uint8, jnp.asarray):
        counts = {"num_samples": integer(64), "num_replicates": integer(8)}
        assert gmmjax.kl_divergence(key, G, G._replace(means=1 + G.means), **counts) == expected


@pytest.mark.parametrize("divergence", [gmmjax.kl_divergence, gmmjax.js_divergence])
class TestDivergences:
    def test_dimensions_differ(self, divergence, key):
        with pytest.raises(ValueError, match=r"q: has dimension 3.*p has dimension 2"):
            divergence(key, random_mixture(0, 2, 2), random_mixture(0, 2, 3))

    def test_not_a_mixture(self, divergence, key):
        g = random_mixture(0, 2, 2)
        with pytest.raises(TypeError, match="q: expected a gmmjax.GMM, got Unconstrained"):
            divergence(key, g, gmmjax.unconstrain(g))

    def test_batch(self, divergence, key):
        g = random_mixture(0, 2, 2)
        with pytest.raises(ValueError, match="p.means: is a batch.*jax.vmap"):
            divergence(key, gmmjax.stack([g, g]), g)

    def test_wrong_scale(self, divergence, key):
        g = random_mixture(0, 2, 2)
        with pytest.raises(ValueError, match=r"p.scale.*\(3, 2, 2\)"):
            divergence(key, g._replace(scale=jnp.ones((3, 2, 2))), g)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (0, "at least 1, got 0"),
            (-5, "got -5"),
            (1e4, "10000.0 of type float"),
            ("9", "str"),
            (True, "True"),
        ],
    )
    def test_num_samples(self, divergence, bad, message, key):
        g = random_mixture(0, 2, 2)
        with pytest.raises((TypeError, ValueError), match=f"num_samples.*{message}"):
            divergence(key, g, g, num_samples=bad)

    @pytest.mark.parametrize("transform", [jax.jit, jax.vmap])
    def test_traced_num_samples(self, divergence, transform, key):
        g = random_mixture(0, 2, 2)
        with pytest.raises(TypeError, match=r"num_samples.*functools\.partial"):
            transform(lambda n: divergence(key, g, g, num_samples=n))(jnp.array([64]))
        jax.jit(functools.partial(divergence, num_samples=64))(key, g, g)

    def test_keys(self, divergence):
        g = random_mixture(0, 2, 2)
        with pytest.raises(TypeError, match="key.*old-style.*wrap_key_data"):
            divergence(jax.random.PRNGKey(0), g, g)
        for missing in (None, g, 0):
            with pytest.raises(
                TypeError, match=f"key.*jax.random.key.*got {type(missing).__name__}"
            ):
                divergence(missing, g, g)
        with pytest.raises(TypeError, match="key: .*the key comes first, got GMM"):
            divergence(g, g)
        with pytest.raises(ValueError, match=r"key.*shape \(3,\).*vmap"):
            divergence(jax.random.split(jax.random.key(0), 3), g, g)


def test_points_outside_the_space():
    with pytest.raises(ValueError, match=r"x: expected points of shape \(…, 2\), got \(5, 3\)"):
        gmmjax.log_prob(random_mixture(0, 2, 2), jnp.zeros((5, 3)))


def test_function_of_wrong_shape(key):
    with pytest.raises(ValueError, match="fn: expected values of shape"):
        gmmjax.expectation(key, lambda x: x, random_mixture(0, 2, 2))


def test_stack_of_nothing_and_of_different_spaces():
    with pytest.raises(ValueError, match="at least one"):
        gmmjax.stack([])
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        gmmjax.stack([random_mixture(0, 2, 2), random_mixture(0, 2, 3)])
