"""Every estimate against quadrature, its error against its spread, and the inequalities between
them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import REFERENCE, alike, cast, of_dimension, random_mixture, reference, stacked_reference
from programs import equations, makes_normals

import gmmjax
from gmmjax._mixture import density
from gmmjax._sampling import unseen


def forward(t):
    return t * jnp.exp(t)


# Estimate, what it is in terms of the published integrals, and what else it is called with.
ESTIMATES = {
    "jeffreys": (gmmjax.jeffreys_divergence, lambda e: e["kl_pq"] + e["kl_qp"]),
    "skew KL": (functools.partial(gmmjax.skew_kl_divergence, alpha=1.0), lambda e: e["kl_pq"]),
    "cross-entropy": (gmmjax.cross_entropy, lambda e: e["cross_entropy_pq"]),
    "entropy": (lambda key, p, q, **k: gmmjax.entropy(key, p, **k), lambda e: e["entropy_p"]),
    "generalised JS": (
        lambda key, p, q, **k: gmmjax.generalised_js_divergence(key, [p, q], **k),
        lambda e: e["js"],
    ),
    "total variation": (gmmjax.total_variation, lambda e: e["tv"]),
    "hellinger": (gmmjax.squared_hellinger, lambda e: e["hellinger2"]),
    "bhattacharyya": (gmmjax.bhattacharyya_distance, lambda e: e["renyi_half"] / 2),
    "renyi": (gmmjax.renyi_divergence, lambda e: e["renyi_half"], 0.5),
    "renyi 1": (gmmjax.renyi_divergence, lambda e: e["kl_pq"], 1.0),
    "tsallis": (gmmjax.tsallis_divergence, lambda e: 2 * e["hellinger2"], 0.5),
    "f": (lambda *a, **k: gmmjax.f_divergence(*a, forward, **k), lambda e: e["kl_pq"]),
    "KL without": (
        functools.partial(gmmjax.kl_divergence, control_variate=False),
        lambda e: e["kl_pq"],
    ),
    "JS with control": (
        functools.partial(gmmjax.js_divergence, control_variate=True),
        lambda e: e["js"],
    ),
}


@functools.cache
def over_pairs_and_keys(call):
    """A compiled loop, `(pairs, keys)`."""

    @jax.jit
    def run(keys, p, q, *orders):
        of_pair = lambda pair: jax.lax.map(
            lambda key: call(key, *pair, *orders, num_samples=1024), keys
        )
        return jax.lax.map(of_pair, (p, q))

    return run


def errors(name):
    """Errors and standard errors over many keys of published pairs, `(pairs, keys)`, and the truth
    `(pairs, 1)`.

    The pairs are on the line for every other estimate, in the plane for the rest: few estimates are
    of their own kind.
    """
    call, exact, *orders = ESTIMATES[name]
    dim = 1 + list(ESTIMATES).index(name) % 2
    truth = np.array([exact(REFERENCE[pair]["exact"]) for pair in of_dimension(dim)])[:, None]
    keys = jax.random.split(jax.random.key(0), 360 // len(truth))
    value, stderr = over_pairs_and_keys(call)(keys, *stacked_reference(dim), *orders)
    return np.asarray(value) - truth, np.asarray(stderr), truth


@pytest.mark.parametrize("name", ESTIMATES)
def test_exact_values_and_calibration(name):
    error, stderr, truth = errors(name)
    rounding = 1e-9 * np.maximum(1, np.abs(truth))
    assert (np.abs(error) <= 6 * stderr + rounding).all()
    # A logarithm of a mean is biased by half its squared relative error, which the mean over keys
    # could show.
    allowed = (
        5 * np.sqrt(np.mean(stderr**2, axis=1) / stderr.shape[1])
        + np.mean(stderr**2, axis=1)
        + rounding[:, 0]
    )
    assert (np.abs(error.mean(axis=1)) <= allowed).all()
    covered = (np.abs(error) <= 2 * stderr + rounding).mean()
    assert 0.91 <= covered <= 0.99
    resolved = (stderr > rounding).any(axis=1)
    assert (np.abs(error[resolved]) > 0.7 * stderr[resolved]).any()  # the error is not overstated


def within(a, b, stderr, count=5):
    assert abs(a - b) <= count * stderr + 1e-9 * max(1, abs(b))


@pytest.mark.parametrize("seed", range(2))
def test_identities_and_inequalities(seed, key):
    p, q = random_mixture(seed, 3, 2, spread=1.0), random_mixture(seed + 1, 3, 2, spread=1.0)
    there, back = gmmjax.kl_divergence(key, p, q), gmmjax.kl_divergence(key, q, p)
    jeffreys = gmmjax.jeffreys_divergence(key, p, q)
    within(
        jeffreys.value,
        there.value + back.value,
        np.hypot(jeffreys.stderr, np.hypot(there.stderr, back.stderr)),
    )
    entropy, cross = gmmjax.entropy(key, p), gmmjax.cross_entropy(key, p, q)
    within(
        there.value,
        cross.value - entropy.value,
        np.hypot(entropy.stderr, cross.stderr) + there.stderr,
    )
    variation, hellinger = gmmjax.total_variation(key, p, q), gmmjax.squared_hellinger(key, p, q)
    slack = 5 * (variation.stderr + hellinger.stderr + there.stderr)
    assert variation.value <= np.sqrt(there.value / 2) + slack  # Pinsker
    assert variation.value <= np.sqrt(1 - np.exp(-there.value)) + slack  # Bretagnolle and Huber
    assert hellinger.value - slack <= variation.value <= np.sqrt(2 * hellinger.value) + slack
    orders = [gmmjax.renyi_divergence(key, p, q, a).value for a in (0.3, 0.7, 1.0)]
    assert orders[0] < orders[1] < orders[2]  # Rényi increases with its order, to KL
    within(gmmjax.renyi_divergence(key, p, q, 1 + 1e-6).value, there.value, 2 * there.stderr)
    js = gmmjax.js_divergence(key, p, q)
    assert 0 < js.value < np.log(2)
    weighted = gmmjax.js_divergence(key, p, q, weight=0.3)
    several = gmmjax.generalised_js_divergence(key, [p, q], [0.7, 0.3])
    np.testing.assert_allclose(weighted.value, several.value, rtol=1e-12)
    assert weighted.value != js.value


def test_renyi_in_its_order_is_differentiable(key):
    p, q = random_mixture(0, 3, 2, spread=1.0), random_mixture(1, 3, 2, spread=1.0)
    both = jax.jit(
        jax.value_and_grad(lambda a: gmmjax.renyi_divergence(key, p, q, a, num_samples=1024).value)
    )
    for alpha in (0.5, 1.0, 1.2):
        difference = (both(alpha + 1e-4)[0] - both(alpha - 1e-4)[0]) / 2e-4
        np.testing.assert_allclose(both(alpha)[1], difference, rtol=1e-4)


def test_mutual_information_is_between_none_and_all(key):
    apart = random_mixture(0, 3, 2, spread=100.0)
    weights = gmmjax.weights(apart)
    np.testing.assert_allclose(
        gmmjax.mutual_information(key, apart).value, -jnp.vdot(weights, jnp.log(weights))
    )
    together = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), apart)._replace(
        logits=apart.logits
    )
    assert abs(gmmjax.mutual_information(key, together).value) < 1e-12


@jax.jit
def exact_kl(p, q):
    """KL of two Gaussians and its gradient in the first."""
    return jax.value_and_grad(gmmjax.gaussian_kl)(p, q)


@pytest.mark.parametrize("num_samples", [1, 3, 64])
def test_single_gaussians_are_exact(num_samples, key):
    p, q = random_mixture(0, 1, 5), random_mixture(1, 1, 5)
    exact, wanted = exact_kl(p, q)
    sampled = lambda p: (
        gmmjax.kl_divergence(key, p, q, num_samples=num_samples, stick_the_landing=False).value
    )
    value, gradient = jax.jit(jax.value_and_grad(sampled))(p)
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), gradient, wanted
    )
    plain = gmmjax.kl_divergence(key, p, q, num_samples=num_samples, control_variate=False)
    assert abs(plain.value - exact) > 1e-6 * exact


def test_control_pays_where_components_are_separated(key):
    p, q = random_mixture(0, 5, 10, spread=4.0), random_mixture(1, 5, 10, spread=4.0)
    errors = {
        (points, control): gmmjax.kl_divergence(
            key, p, q, points=points, control_variate=control
        ).stderr
        for points in (gmmjax.iid, gmmjax.sobol)
        for control in (True, False)
    }
    assert errors[gmmjax.iid, True] < 0.5 * errors[gmmjax.iid, False]
    # Sobol points leave little of what the control takes out; the errors themselves are known to 12
    # %.
    assert errors[gmmjax.sobol, True] < 1.5 * errors[gmmjax.sobol, False]
    assert errors[gmmjax.sobol, True] < 0.5 * errors[gmmjax.iid, True]


def gaussian(mean, scale):
    return gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), mean), jnp.full(1, scale))


def test_power_divergences_of_gaussians(key):
    p, q = gaussian(0.0, 1.0), gaussian(0.5, 1.2)
    for alpha in (0.3, 0.9, 1.5, 2.0):
        variance = alpha * 1.2**2 + (1 - alpha)
        exact = (
            np.log(1.2) + 0.5 * np.log(1.2**2 / variance) / (alpha - 1) + 0.125 * alpha / variance
        )
        found = gmmjax.renyi_divergence(key, p, q, alpha)
        within(found.value, exact, found.stderr)
    chi2 = gmmjax.chi2_divergence(key, p, q)
    within(chi2.value, np.expm1(exact), chi2.stderr)


@pytest.mark.parametrize("seed", range(3))
def test_tails_that_were_not_seen_are_confessed(seed):
    key = jax.random.key(seed)
    wide, narrow = gaussian(0.0, 2.0), gaussian(0.0, 1.0)  # ∫ p²/q diverges
    assert gmmjax.chi2_divergence(key, wide, narrow).stderr == np.inf
    assert gmmjax.renyi_divergence(key, wide, narrow, 2.0).stderr == np.inf
    assert np.isfinite(gmmjax.chi2_divergence(key, narrow, wide).stderr)


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical", "tied"])
def test_tails_that_no_point_shows_are_known(kind):
    """χ² has infinite variance where q is much narrower than p in one direction, however rare the
    component of p.
    """
    wide = random_mixture(0, 3, 4, spread=0.5, kind=kind)
    q = jax.tree.map(lambda leaf: leaf, wide)._replace(logits=jnp.zeros(3), means=wide.means[::-1])
    squeezed = lambda factor: q._replace(scale=factor * q.scale)
    judge = jax.jit(
        lambda p, q: jnp.isinf(
            unseen.heavy_tails(density.prepare(p), density.prepare(q), jnp.array(2.0))
        )
    )
    # Alike but for a factor f: (4 − 1/s) a > 2 a/f² with s = 1 + 2/16, while the ratio of the
    # covariances is the same.
    single = lambda g: jax.tree.map(lambda leaf: leaf[:1], g)
    edge = np.sqrt(2 / (4 - 8 / 9))
    for factor in (0.5, edge - 1e-6, edge + 1e-6, 1.0, 2.0):
        p = single(wide)
        assert judge(p, p._replace(scale=factor * p.scale)) == (factor < edge)
    assert judge(wide, squeezed(0.3))
    assert not judge(wide, squeezed(3.0))
    # One wide component of q is enough, if it is there.
    rescued = gmmjax.mix([squeezed(0.3), squeezed(3.0)], [0.999, 0.001])
    assert not judge(wide, rescued)
    assert judge(wide, rescued._replace(logits=rescued.logits.at[3:].set(-jnp.inf)))


def test_a_rare_wide_mode_of_p_makes_chi2_infinite(key):
    p = gmmjax.from_covariances(
        [1 - 1e-9, 1e-9], np.zeros((2, 3)), np.stack([np.eye(3), np.diag([1, 1, 9.0])])
    )
    q = gmmjax.from_covariances([0.5, 0.5], np.zeros((2, 3)), np.stack(2 * [1.5 * np.eye(3)]))
    assert gmmjax.chi2_divergence(key, p, q).stderr == np.inf
    assert jax.jit(gmmjax.renyi_divergence)(key, p, q, 2.0).stderr == np.inf
    for alpha in (0.5, 1.0):
        assert np.isfinite(jax.jit(gmmjax.renyi_divergence)(key, p, q, alpha).stderr)
    assert np.isfinite(gmmjax.chi2_divergence(key, q, p).stderr)


POWERS = [(1.5, jnp.float64), (2.0, jnp.float32), (3.0, jnp.float64), (-0.5, jnp.float64)]


@pytest.mark.parametrize(("power", "dtype"), POWERS)
def test_generators_that_grow_like_powers(power, dtype, key):
    generator = lambda t: jnp.sign(power * (power - 1)) * jnp.expm1(power * t)
    estimate = jax.jit(
        jax.value_and_grad(lambda p, q: gmmjax.f_divergence(key, p, q, generator), has_aux=True)
    )
    wide, narrow = (cast(gaussian(0.0, s), dtype) for s in (1.3, 1.2))
    p, q = (wide, narrow) if power > 0 else (narrow, wide)
    (value, stderr), slope = estimate(p, q)
    variance = power * q.scale**2 + (1 - power) * p.scale**2
    exact = jnp.sqrt(p.scale ** (2 * (1 - power)) * q.scale ** (2 * power) / variance)[0] - 1
    within(value, np.sign(power * (power - 1)) * exact, stderr + 1e-6)
    assert all(np.isfinite(leaf).all() for leaf in slope)
    wide = wide._replace(scale=3 * wide.scale)  # now the integral is infinite
    p, q = (wide, narrow) if power > 0 else (narrow, wide)
    assert estimate(p, q)[0][1] == np.inf
    assert np.isfinite(gmmjax.f_divergence(key, p, q, forward).stderr)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_far_mixtures_stay_finite(dtype, key):
    p, q = cast((gaussian(-500.0, 1.0), gaussian(500.0, 1.0)), dtype)
    np.testing.assert_allclose(gmmjax.f_divergence(key, p, q, forward).value, 5e5, rtol=1e-5)
    np.testing.assert_allclose(gmmjax.kl_divergence(key, p, q).value, 5e5, rtol=1e-5)
    # beyond what points of p and q can tell; of one Gaussian each the closed form is all there is
    value, stderr = gmmjax.bhattacharyya_distance(key, p, q)
    np.testing.assert_allclose(value, 125_000, rtol=1e-5)
    assert stderr < 1


def test_far_mixtures_have_values_and_slopes_in_single_precision(key):
    """Which has the smaller range; the test above is for both."""
    p, q = cast((gaussian(-500.0, 1.0), gaussian(500.0, 1.0)), jnp.float32)
    np.testing.assert_allclose(gmmjax.total_variation(key, p, q).value, 1.0, rtol=1e-6)
    np.testing.assert_allclose(gmmjax.tsallis_divergence(key, p, q, 0.5).value, 2.0)
    slope = jax.jit(jax.grad(lambda p: gmmjax.squared_hellinger(key, p, q).value))(p)
    assert all(np.isfinite(leaf).all() for leaf in slope)


def test_bad_arguments_are_named(key):
    p, q = reference("two_by_two")
    with pytest.raises(ValueError, match="alpha: expected a number above 0"):
        gmmjax.renyi_divergence(key, p, q, 0.0)
    with pytest.raises(ValueError, match="alpha: expected a number above 0"):
        gmmjax.skew_kl_divergence(key, p, q, alpha=1.5)
    with pytest.raises(ValueError, match="weight: expected"):
        gmmjax.js_divergence(key, p, q, weight=-0.1)
    with pytest.raises(ValueError, match="mixtures: expected a sequence"):
        gmmjax.generalised_js_divergence(key, p)
    with pytest.raises(ValueError, match=r"weights: expected shape \(2,\)"):
        gmmjax.generalised_js_divergence(key, [p, q], [1.0])
    with pytest.raises(TypeError, match="generator: expected a function"):
        gmmjax.f_divergence(key, p, q, 2.0)
    with pytest.raises(ValueError, match="num_replicates: expected at least 1"):
        gmmjax.kl_divergence(key, p, q, num_replicates=0)


def test_one_key_draws_the_points_once(key):
    """Under one key the normals of all pairs are those of one; the twin shows what it costs if they
    are not.
    """
    qs = gmmjax.stack([random_mixture(s, 3, 2) for s in range(7)])
    p = random_mixture(9, 3, 2)

    def batches(axes, keys):
        """How many normals are made at once, of one pair or of all."""
        program = jax.make_jaxpr(jax.vmap(gmmjax.kl_divergence, axes))(keys, p, qs)
        made = filter(makes_normals, equations(program.jaxpr))
        return {equation.outvars[0].aval.shape[0] for equation in made}

    assert 7 not in batches((None, None, 0), key)
    assert 7 in batches((0, None, 0), jax.random.split(key, 7))


def test_common_random_numbers_resolve_small_differences():
    p, q = alike("planar_3_to_2")
    moved = q._replace(means=q.means + 1e-3)
    keys = jax.random.split(jax.random.key(0), 32)
    value = jax.jit(
        jax.vmap(lambda k, g: gmmjax.kl_divergence(k, p, g, num_samples=1024).value, (0, None))
    )
    first, same = value(keys, q), value(keys, moved)
    assert np.std(same - first) < 0.02 * np.std(
        value(jax.random.split(jax.random.key(1), 32), moved) - first
    )


@pytest.mark.parametrize("mode", ["forward", "gradient"])
def test_memory_is_bounded(mode, key):
    p, q = random_mixture(0, 10, 10), random_mixture(1, 10, 10)
    value = lambda p, q: gmmjax.kl_divergence(key, p, q, num_samples=10**7).value
    call = value if mode == "forward" else jax.grad(value, argnums=(0, 1))
    memory = jax.jit(call).lower(p, q).compile().memory_analysis()
    assert 0 < memory.temp_size_in_bytes + memory.output_size_in_bytes < 1 << 28
