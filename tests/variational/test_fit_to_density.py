"""Natural gradients arrive, see no units, find modes, and are not taken in by nonsense."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax._pairs.components import pairwise_kl
from gmmjax._variational import own_points, quadratic, trust_region

fit = functools.partial(gmmjax.fit_to_density, num_steps=40, samples_per_component=20)
TARGET = random_mixture(3, 1, 3)
ROWS = [[1.0, 0.0, 0.0], [-2.0, 3.0, 0.0], [0.5, 1.0, 0.2]]


def gaussian(x, target=TARGET):
    return gmmjax.log_prob(target, x) + 2.0  # log Z = 2


def broad(dim, size=4.0, kind="full"):
    scale = {"full": size * jnp.eye(dim)[None], "diagonal": jnp.full((1, dim), size)}
    scale["spherical"] = jnp.full(1, size)
    return gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, dim)), scale[kind])


def close(a, b, tolerance=1e-8):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def test_a_gaussian_is_found_to_rounding(key):
    result = fit(key, gaussian, broad(3))
    close(
        (result.gmm.means, gmmjax.covariances(result.gmm)),
        (TARGET.means, gmmjax.covariances(TARGET)),
    )
    assert result.loss.value == pytest.approx(-2.0, abs=1e-8)
    assert result.loss.stderr < 1e-8
    assert result.losses[-1] == pytest.approx(-2.0, abs=1e-8)
    assert result.gradient_norms[-1] < 1e-6 < result.gradient_norms[0]
    assert (result.num_steps, result.num_skipped) == (40, 0)


def test_without_gradients_too(key):
    result = fit(key, gaussian, broad(3), differentiable=False)
    close(
        (result.gmm.means, gmmjax.covariances(result.gmm)),
        (TARGET.means, gmmjax.covariances(TARGET)),
    )


def test_no_gradient_is_taken_where_there_is_none(key):
    def opaque(x):
        shape = jax.ShapeDtypeStruct(x.shape[:1], x.dtype)
        return jax.pure_callback(lambda x: -0.5 * np.sum(np.asarray(x) ** 2, axis=1), shape, x)

    result = fit(key, opaque, broad(2), differentiable=False, num_steps=100)
    close(gmmjax.covariances(result.gmm)[0], np.eye(2))


@pytest.mark.parametrize("kind", ["diagonal", "spherical"])
@pytest.mark.parametrize("differentiable", [True, False])
def test_other_structures_find_their_own_optimum(kind, differentiable, key):
    count = 20 if differentiable else 200
    result = gmmjax.fit_to_density(
        key,
        gaussian,
        broad(3, kind=kind),
        differentiable=differentiable,
        samples_per_component=count,
    )
    precision = np.linalg.inv(gmmjax.covariances(TARGET)[0])
    expected = np.diagonal(precision) if kind == "diagonal" else np.trace(precision) / 3
    assert result.gmm.scale.shape == broad(3, kind=kind).scale.shape
    np.testing.assert_allclose(1 / result.gmm.scale[0] ** 2, expected, rtol=0.2)
    np.testing.assert_allclose(result.gmm.means, TARGET.means, atol=0.1)


@pytest.mark.parametrize(
    ("size", "options"),
    [(1e-6, {}), (1e6, {}), (1e6, {"max_components": 3})],
    ids=["small", "large", "growing"],
)
def test_units_do_not_matter(size, options, key):
    matrix, shift = size * jnp.asarray(ROWS), size * jnp.array([3.0, -1.0, 2.0])
    target = random_mixture(1, 2, 3)
    there = gmmjax.affine(target, matrix, shift)
    init = broad(3) if options else gmmjax.moment_start(key, broad(3), 2)
    mapped = init._replace(
        means=init.means @ matrix.T + shift[None],
        scale=jnp.einsum("ij,kjl->kil", matrix, init.scale),
    )
    log_density = lambda x, p: gmmjax.log_prob(p, x)
    plain = fit(key, log_density, init, args=(target,), **options)
    other = fit(key, log_density, mapped, args=(there,), **options)
    back = (other.gmm.means - shift[None]) @ jnp.linalg.inv(matrix).T
    present = np.asarray(plain.gmm.logits > -jnp.inf)
    close(other.gmm.logits, plain.gmm.logits, 1e-4)
    close(back[present], plain.gmm.means[present], 1e-4)
    close(other.losses, plain.losses, 1e-4)
    assert other.num_evaluations == plain.num_evaluations


MODES = np.array([[-20.0, 0.0], [20.0, 0.0], [0.0, 20.0], [0.0, -20.0]])


def four_modes(x):
    squares = jnp.sum((x[:, None] - MODES[None]) ** 2, axis=-1)
    return jax.nn.logsumexp(-0.5 * squares, axis=1) - float(np.log(8 * np.pi))


def test_modes_are_found(key):
    result = fit(key, four_modes, broad(2, 15.0), num_steps=150, max_components=8)
    apart = np.linalg.norm(np.asarray(result.gmm.means)[None] - MODES[:, None], axis=-1)
    weight = np.asarray(gmmjax.weights(result.gmm))
    masses = [np.sum(weight[near < 1]) for near in apart]
    np.testing.assert_allclose(masses, 0.25, atol=0.02)
    assert result.loss.value < 0.02
    alone = fit(key, four_modes, broad(2, 15.0))  # which one component cannot
    assert alone.loss.value > 1


def test_weights_wait_for_components(key):
    """From the same start, weights that move at once collapse onto what is nearest."""
    start = gmmjax.GMM(jnp.zeros(2), jnp.array([[-18.0, 0.0], [60.0, 0.0]]), jnp.ones((2, 2)))
    result = fit(key, four_modes, start, num_steps=100)
    np.testing.assert_allclose(gmmjax.weights(result.gmm), 0.5, atol=0.05)


def test_evaluations_are_counted(key):
    seen = []

    def counting(x):
        jax.debug.callback(lambda x: seen.append(len(x)), x)
        return -0.5 * jnp.sum(x**2, axis=1)

    for options in ({}, {"max_components": 4}):
        seen.clear()
        result = fit(key, counting, broad(2), num_steps=20, num_samples=64, **options)
        jax.effects_barrier()
        assert sum(seen) == result.num_evaluations
        assert str(result).endswith(f" steps, {sum(seen):,} evaluations")
    assert fit(key, gaussian, broad(3), num_samples=64).num_evaluations == 40 * 20 + 2 * 64


def test_own_component_is_exact_where_points_are_rounded(key):
    """Rounding of μ + L z moves a narrow component's points, and not what it says of them."""
    q = cast(gmmjax.GMM(jnp.zeros(1), jnp.full((1, 2), 100.0), jnp.full((1, 2), 1e-6)), jnp.float32)
    points = own_points.place(q, own_points.normals(key, q, 64), jnp.ones(1, bool))
    exact = -0.5 * np.sum(np.asarray(points.z[0]) ** 2, axis=0) - 2 * np.log(np.float32(1e-6))
    np.testing.assert_allclose(points.log_q[0], exact - np.log(2 * np.pi), rtol=1e-6)
    rounded = gmmjax.log_prob(q, points.x[0])
    assert np.max(np.abs(rounded - points.log_q[0])) > 1  # the twin


def test_nonsense_loses_to_the_start(key):
    """A density that is +inf where only a collapsed fit looks."""

    def trap(x):
        squares = jnp.sum(x**2, axis=1)
        return jnp.where(squares < 1e-6, jnp.inf, -1e8 * squares)

    with pytest.warns(UserWarning, match="not finite; the components"):
        result = fit(key, trap, cast(broad(2, 1.0), jnp.float32), num_steps=100)
    assert result.loss.value <= result.start.value
    assert np.isfinite(result.loss.value)
    assert all(np.isfinite(leaf).all() for leaf in result.gmm)


def test_what_is_not_finite_is_halved_and_told(key):
    edge = lambda x: jnp.sum(jnp.log(x) - x, axis=1)  # NaN below 0
    start = gmmjax.GMM(jnp.zeros(1), jnp.full((1, 2), 3.0), jnp.full((1, 2), 0.5))
    with pytest.warns(UserWarning, match="not finite; the components"):
        result = fit(key, edge, start)
    assert result.num_skipped > 0
    assert result.num_steps + result.num_skipped == 40
    assert all(np.isfinite(leaf).all() for leaf in result.gmm)
    assert result.loss.value <= result.start.value


def test_wild_starts_and_steps_stay_sound(key):
    """Ten at once, far off, with trust regions ten times too large."""
    log_density = lambda x: jax.nn.logsumexp(
        -0.5 * jnp.sum((x[:, None] - MODES[None]) ** 2, -1), axis=1
    )

    def one(key):
        far = 1e3 * jax.random.normal(key, (3, 2))
        start = gmmjax.GMM(jnp.zeros(3), far, jnp.broadcast_to(jnp.eye(2), (3, 2, 2)))
        return fit(key, log_density, cast(start, jnp.float32), max_kl=10.0)

    result = jax.jit(jax.vmap(one))(jax.random.split(key, 10))
    assert all(np.isfinite(leaf).all() for leaf in (*result.gmm, result.loss.value))
    assert (result.loss.value <= result.start.value).all()
    assert (result.loss.value >= -np.log(8 * np.pi) - 4 * result.loss.stderr).all()


def test_batched_is_a_loop(key):
    keys = jax.random.split(key, 3)
    start = gmmjax.moment_start(key, broad(2, 15.0), 3)
    run = functools.partial(fit, log_density=four_modes, init=start, num_steps=15)
    batch = jax.jit(jax.vmap(lambda key: run(key)))(keys)
    alone = run(keys[1])
    close(jax.tree.map(lambda leaf: leaf[1], batch), alone, 1e-6)


def test_absent_components_stay_out(key):
    """They once met values that are not finite in every step, which was told."""
    start = gmmjax.pad(gmmjax.moment_start(key, broad(2, 15.0), 2), 3)
    result = fit(key, four_modes, start, num_steps=15)
    assert result.num_skipped == 0
    np.testing.assert_array_equal(result.gmm.logits == -jnp.inf, [False, False, True])


@pytest.mark.parametrize("options", [{}, {"max_components": 3}], ids=["fixed", "growing"])
def test_a_checkpoint_goes_on_to_the_same_result(options, key, tmp_path):
    path, start = tmp_path / "fit.npz", broad(2, 15.0)
    run = functools.partial(fit, key, four_modes, start, interval=10, num_steps=30, **options)
    whole = run()
    run(checkpoint=path, num_steps=30)
    with np.load(path, allow_pickle=False) as archive:
        assert archive["done"] == 30
    jax.tree.map(np.testing.assert_array_equal, run(checkpoint=path), whole)


def test_steps_stay_inside_their_trust_region(key):
    found = quadratic.Quadratic(
        jnp.zeros(2),
        jnp.zeros(2),
        jax.random.normal(key, (2, 3)),
        -4 * jnp.broadcast_to(jnp.eye(3), (2, 3, 3)),
    )
    radius = jnp.array([0.1, 1e-6])
    size = trust_region.largest_step(found, radius, jnp.ones(()))
    change = trust_region.move(found, size)
    assert (change.kl <= radius).all()
    assert (change.kl > 0.5 * radius).all()
    q = gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 3)), jnp.broadcast_to(jnp.eye(3), (2, 3, 3)))
    new = trust_region.moved(q, change)
    kl = np.diagonal(pairwise_kl(new, q))
    np.testing.assert_allclose(kl, change.kl, rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])
def test_log_q_is_that_of_the_density(kind, key):
    q = random_mixture(0, 3, 2, kind=kind)
    points = own_points.place(q, own_points.normals(key, q, 8), jnp.ones(3, bool))
    close(points.log_q, gmmjax.log_prob(q, points.x), 1e-10)
    slope = jax.grad(lambda x: jnp.sum(gmmjax.log_prob(q, x)))(points.x).mT
    close(points.gradient, own_points.pull_back(q, slope), 1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_density": lambda x: x}, r"log_density: expected values of shape \(20,\)"),
        ({"log_density": lambda x: -jnp.dot(x, x)}, "log_density: is given points of shape"),
        ({"log_density": 3}, "log_density: expected a function"),
        ({"num_steps": 0}, "num_steps: expected at least 1"),
        ({"max_components": 0}, "max_components: expected at least 1"),
        (
            {"init": random_mixture(0, 3, 3), "max_components": 2},
            "max_components: expected at least the 3",
        ),
        ({"init": random_mixture(0, 3, 3, kind="tied")}, "init: has a tied scale"),
        ({"max_kl": -1.0}, "max_kl: expected a number above 0"),
    ],
)
def test_bad_arguments_are_named(options, message, key):
    with pytest.raises((ValueError, TypeError), match=message):
        fit(**{"key": key, "log_density": gaussian, "init": broad(3), **options})


def test_single_precision_stays_single(key):
    result = fit(key, gaussian, cast(broad(3), jnp.float32), num_steps=2)
    assert {leaf.dtype for leaf in (*result.gmm, *result.loss)} == {jnp.dtype(jnp.float32)}
