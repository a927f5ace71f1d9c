"""KL and JS against exact values, gradients and invariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, LEAVES, REFERENCE, alike, cast, densified, random_mixture, reference
from hypothesis import given, settings
from hypothesis import strategies as st

import gmmjax

ROUNDING = 1e-9
pairs = pytest.mark.parametrize("name", REFERENCE)
structured = pytest.mark.parametrize(
    ("divergence", "kind"),
    [(gmmjax.kl_divergence, kind) for kind in KINDS]
    + [(gmmjax.js_divergence, kind) for kind in KINDS[::4]],
)
CASES = {
    "kl_pq": (gmmjax.kl_divergence, False),
    "kl_qp": (gmmjax.kl_divergence, True),
    "js": (gmmjax.js_divergence, 0),
}


def ordered(name, swap):
    p, q = alike(name)
    return (q, p) if swap else (p, q)


@pairs
@pytest.mark.parametrize(
    ("quantity", "points"),
    [*((q, gmmjax.sobol) for q in CASES), ("kl_pq", gmmjax.iid), ("js", gmmjax.iid)],
)
def test_exact_values(name, quantity, points, key):
    divergence, swap = CASES[quantity]
    truth = REFERENCE[name]["exact"][quantity]
    value, stderr = divergence(key, *ordered(name, swap), points=points)
    assert abs(value - truth) <= 4 * stderr + ROUNDING * max(1, truth)


@pairs
@pytest.mark.parametrize("quantity", CASES)
def test_stated_accuracy(name, quantity, key):
    divergence, swap = CASES[quantity]
    truth = REFERENCE[name]["exact"][quantity]
    stderr = divergence(key, *ordered(name, swap), num_samples=65_536).stderr
    assert 0 < stderr <= 1e-3 * max(1, truth)


@functools.partial(jax.jit, static_argnums=(2, 3))
def gradients(p, q, divergence, landing):
    """Mean and standard error of the gradient over independent keys."""

    def gradient(key):
        call = functools.partial(divergence, num_samples=4096, stick_the_landing=landing)
        return jax.grad(lambda p, q: call(key, p, q).value, argnums=(0, 1))(p, q)

    draws = jax.lax.map(gradient, jax.random.split(jax.random.key(1), 16))
    return jax.tree.map(lambda d: (d.mean(0), d.std(0, ddof=1) / 4), draws)


@pairs
@pytest.mark.parametrize(("quantity", "landing"), [("kl_pq", True), ("kl_pq", False), ("js", True)])
def test_exact_gradients(name, quantity, landing):
    found = gradients(*alike(name), CASES[quantity][0], landing)
    for side, gradient in zip("pq", found, strict=True):
        for leaf in LEAVES:
            truth = np.asarray(REFERENCE[name]["grad"][quantity][side][leaf])
            truth = np.tril(truth) if leaf == "scale" else truth
            mean, stderr = (part[: len(truth)] for part in getattr(gradient, leaf))
            # 16 keys and hundreds of entries: the tail of a t distribution beyond 6.5 is 1e-5.
            slack = 1e-7 * max(1.0, np.abs(truth).max())
            np.testing.assert_array_less(np.abs(mean - truth), 6.5 * stderr + slack)


def test_naive_weight_gradient_is_wrong(key):
    p, q = reference("reweighted")
    truth = np.asarray(REFERENCE["reweighted"]["grad"]["kl_pq"]["p"]["logits"])

    def naive(p):
        x = gmmjax.sample(key, p, 100_000)
        return jnp.mean(gmmjax.log_prob(jax.lax.stop_gradient(p), x) - gmmjax.log_prob(q, x))

    assert np.abs(jax.grad(naive)(p).logits).max() == 0
    ours = jax.grad(lambda p: gmmjax.kl_divergence(key, p, q).value)(p).logits
    assert np.abs(truth).max() > 0.1
    np.testing.assert_allclose(ours, truth, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS[::2])
def test_stick_the_landing_at_equality(kind, key):
    p = random_mixture(3, 4, 3, kind=kind)
    small = 1e-13
    slopes = lambda divergence: jax.jit(
        jax.grad(lambda *g: divergence(key, *g, num_samples=2048).value, (0, 1))
    )(p, p)
    sampled = slopes(gmmjax.kl_divergence)
    assert all(np.abs(leaf).max() < small for leaf in sampled[0])
    assert np.abs(sampled[1].means).max() > small  # the other side keeps its noise
    assert all(np.abs(leaf).max() < small for leaf in jax.tree.leaves(slopes(gmmjax.js_divergence)))


@functools.partial(jax.jit, static_argnums=0)
def slopes(divergence, key, p, q):
    return jax.value_and_grad(
        lambda *g: divergence(key, *g, num_samples=1024).value, argnums=(0, 1)
    )(p, q)


@structured
def test_structure_is_its_dense_twin(divergence, kind, key):
    p, q = random_mixture(0, 4, 3, kind=kind), random_mixture(1, 3, 3, kind=kind)

    value, gradient = slopes(divergence, key, p, q)
    dense, back = jax.vjp(jax.jit(lambda *pair: tuple(map(densified, pair))), p, q)
    twin, dense_gradient = slopes(divergence, key, *dense)
    np.testing.assert_allclose(value, twin, rtol=1e-11)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
        gradient,
        back(dense_gradient),
    )


def test_hessian_is_that_of_the_value(key):
    p, q = random_mixture(0, 2, 1), random_mixture(1, 2, 1)
    call = lambda m: (
        gmmjax.kl_divergence(
            key, p, q._replace(means=m), num_samples=256, stick_the_landing=False
        ).value
    )
    hessian = jax.hessian(call)(q.means).reshape(2, 2)
    gradient = jax.grad(call)
    for i in range(2):
        shift = jnp.zeros((2, 1)).at[i].set(1e-5)
        column = (gradient(q.means + shift) - gradient(q.means - shift))[:, 0] / 2e-5
        np.testing.assert_allclose(hessian[:, i], column, rtol=1e-6, atol=1e-9)


seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_affine_invariance(seed):
    p, q = random_mixture(seed, 3, 2), random_mixture(seed + 1, 2, 2)
    rng = np.random.default_rng(seed)
    matrix, shift = rng.normal(size=(2, 2)) + 2 * np.eye(2), 10 * rng.normal(size=2)

    def move(g):
        moved = np.einsum("ij,kjl,ml->kim", matrix, gmmjax.covariances(g), matrix)
        return gmmjax.from_covariances(
            gmmjax.weights(g), np.asarray(g.means) @ matrix.T + shift, moved
        )

    agree(gmmjax.kl_divergence, (p, q), (move(p), move(q)))


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_permutation_and_duplicates(seed):
    p, q = random_mixture(seed, 3, 2), random_mixture(seed + 1, 3, 2)
    order = np.random.default_rng(seed).permutation(3)
    permuted = jax.tree.map(lambda leaf: leaf[order], p)
    split = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), q)
    split = split._replace(logits=split.logits.at[jnp.array([0, 3])].add(-jnp.log(2.0)))
    agree(gmmjax.kl_divergence, (p, q), (permuted, split))
    agree(gmmjax.js_divergence, (p, q), (permuted, split))


def agree(divergence, first, second):
    """Both estimates of one number, within five of their errors."""
    a, b = divergence(jax.random.key(1), *first), divergence(jax.random.key(2), *second)
    assert abs(a.value - b.value) <= 5 * np.hypot(a.stderr, b.stderr) + 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_js_is_symmetric_and_bounded(seed):
    p, q = random_mixture(seed, 3, 2, spread=4.0), random_mixture(seed + 1, 2, 2, spread=4.0)
    there, back = (
        gmmjax.js_divergence(jax.random.key(0), p, q),
        gmmjax.js_divergence(jax.random.key(0), q, p),
    )
    np.testing.assert_allclose(there.value, back.value, rtol=1e-9)
    assert -4 * there.stderr <= there.value <= np.log(2) + 4 * there.stderr


def test_kl_is_not_symmetric(key):
    p, q = reference("crouse_10_to_4")
    assert gmmjax.kl_divergence(key, p, q).value > 2 * gmmjax.kl_divergence(key, q, p).value


@pytest.mark.parametrize("divergence", [gmmjax.kl_divergence, gmmjax.js_divergence])
def test_float32_agrees_with_float64(divergence, key):
    for seed in range(5):
        p, q = random_mixture(seed, 5, 4), random_mixture(seed + 50, 4, 4)
        wide, narrow = divergence(key, p, q), divergence(key, *cast((p, q), jnp.float32))
        assert abs(wide.value - narrow.value) <= 5 * np.hypot(wide.stderr, narrow.stderr)
