"""Matrices of divergences against the Python loop that they replace."""

import builtins
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax._evaluation import pairwise

PS = gmmjax.stack([random_mixture(s, k, 2) for s, k in ((0, 3), (1, 2), (2, 3), (3, 1), (4, 3))])
QS = gmmjax.stack([random_mixture(s, 3, 2) for s in (7, 8)])
kl = functools.partial(gmmjax.kl_divergence, num_samples=128)


def noisy(key, p, q, *, num_samples=32):
    """A user's own estimate, quick to compile."""
    x = p.means[:1] + jax.random.normal(key, (num_samples, 2), p.means.dtype)
    values = gmmjax.log_prob(p, x) - gmmjax.log_prob(q, x)
    return gmmjax.Estimate(jnp.mean(values), jnp.std(values))


def gap(p, q):
    return jnp.sum((gmmjax.mean(p) - gmmjax.mean(q)) ** 2)


def at(batch, i):
    return jax.tree.map(lambda leaf: leaf[i], batch)


def loop(function, keys, ps, qs):
    one = jax.jit(function)
    rows = [
        [one(keys[i], at(ps, i), at(qs, j)) for j in range(len(qs.means))]
        for i in range(len(ps.means))
    ]
    return jax.tree.map(
        lambda *leaves: jnp.stack(leaves),
        *[jax.tree.map(lambda *e: jnp.stack(e), *r) for r in rows],
    )


def close(a, b, tolerance=1e-12):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def test_rectangle_is_the_loop_with_one_key_per_row(key):
    keys = jax.random.split(key, 5)
    matrix = gmmjax.pairwise(gmmjax.kl_divergence, key, PS, QS, num_samples=128)
    assert matrix.value.shape == matrix.stderr.shape == (5, 2)
    close(matrix, loop(kl, keys, PS, QS))
    with np.testing.assert_raises(AssertionError):
        close(matrix, loop(kl, keys[::-1], PS, QS))


def test_a_row_shares_what_is_of_p_alone(key):
    """Its points, and its own density at them: near half of the work."""
    p, qs = random_mixture(0, 8, 8), gmmjax.stack([random_mixture(s, 8, 8) for s in range(1, 9)])

    def work(p, axis):
        batch = jax.jit(jax.vmap(gmmjax.kl_divergence, in_axes=(None, axis, 0)))
        return batch.lower(key, p, qs).cost_analysis()["flops"]

    assert work(p, None) < 0.65 * work(gmmjax.stack([p] * 8), 0)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_numbers_do_not_depend_on_the_chunk(chunk, key):
    close(gmmjax.pairwise(noisy, key, PS, chunk=chunk), gmmjax.pairwise(noisy, key, PS))
    close(gmmjax.pairwise(gap, None, PS, chunk=chunk), gmmjax.pairwise(gap, None, PS))


def test_all_pairs_of_a_divergence_are_exactly_zero_on_the_diagonal(key):
    full = loop(kl, jax.random.split(key, 5), PS, PS)
    matrix = gmmjax.pairwise(kl, key, PS)
    off = ~np.eye(5, dtype=bool)
    close(at(matrix, off), at(full, off))
    assert not np.diagonal(matrix.value).any()
    assert not np.diagonal(matrix.stderr).any()


def test_functions_that_are_no_divergences_keep_their_diagonal(key):
    inner = lambda p, q: 1 + gap(p, q)
    np.testing.assert_array_equal(np.diagonal(gmmjax.pairwise(inner, None, PS)), np.ones(5))
    matrix = gmmjax.pairwise(inner, None, PS, symmetric=True)
    close(matrix, gmmjax.pairwise(inner, None, PS))
    cross = lambda key, p, q: noisy(key, p, q).value + 1
    np.testing.assert_array_equal(np.diagonal(gmmjax.pairwise(cross, key, PS)), np.ones(5))


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_symmetric_functions_compute_half(size):
    # Each pair once, and each but the diagonal is there: a row has size // 2 columns.
    layout = pairwise._all_pairs(size, symmetric=True, zero_diagonal=True)
    assert layout.columns.shape == (size, max(1, size // 2))
    found = layout.columns[layout.row, layout.place]
    i, j = np.indices((size, size))
    assert (
        ((layout.row == i) & (found == j)) | ((layout.row == j) & (found == i)) | (i == j)
    ).all()
    batch = at(PS, slice(size))
    np.testing.assert_allclose(
        gmmjax.pairwise(gap, None, batch, symmetric=True), gmmjax.pairwise(gap, None, batch)
    )


def test_symmetric_estimates_are_symmetric_to_the_bit(key):
    matrix = gmmjax.pairwise(gmmjax.js_divergence, key, PS, num_samples=128)
    close(matrix, jax.tree.map(jnp.transpose, matrix), 0)
    assert not np.diagonal(matrix.value).any()
    one = jax.jit(functools.partial(gmmjax.js_divergence, num_samples=128))
    keys = jax.random.split(key, 5)
    for i, j, row in ((0, 1, 0), (1, 3, 1), (0, 3, 3), (1, 4, 4)):
        other = i + j - row
        close(at(matrix, (i, j)), one(keys[row], at(PS, row), at(PS, other)))


def test_a_weight_that_is_bound_takes_the_symmetry(key):
    one = functools.partial(gmmjax.js_divergence, num_samples=64, weight=0.9)
    matrix = gmmjax.pairwise(one, key, PS)
    close(matrix, gmmjax.pairwise(gmmjax.js_divergence, key, PS, num_samples=64, weight=0.9))
    assert np.abs(matrix.value - matrix.value.T).max() > 0.01


def test_deterministic_functions_and_any_leaves():
    costs = gmmjax.pairwise(gmmjax.mw2_coupling, None, PS, QS)
    assert costs.shape == (5, 2, 3, 3)
    close(costs[3, 1], gmmjax.mw2_coupling(at(PS, 3), at(QS, 1)))
    distances = gmmjax.pairwise(gmmjax.mw2_squared, None, PS)
    np.testing.assert_array_equal(distances, distances.T)
    close(distances[1, 4], gmmjax.mw2_squared(at(PS, 1), at(PS, 4)))
    assert gmmjax.pairwise(gap, None, cast(PS, jnp.float32)).dtype == jnp.float32


def test_the_points_of_a_row_are_drawn_once(key):
    def bits(ps, qs, chunk=None):
        """How many normal numbers a program makes."""
        call = lambda ps, qs: gmmjax.pairwise(kl, key, ps, qs, chunk=chunk)
        sizes = []

        def visit(jaxpr, lengths):
            for equation in jaxpr.eqns:
                inner = (
                    [*lengths, equation.params["length"]]
                    if equation.primitive.name == "scan"
                    else lengths
                )
                if equation.primitive.name == "erf_inv":
                    sizes.append(equation.outvars[0].aval.size * int(np.prod(inner)))
                for value in equation.params.values():
                    for part in value if isinstance(value, tuple) else (value,):
                        if hasattr(part := getattr(part, "jaxpr", part), "eqns"):
                            visit(part, inner)

        visit(jax.make_jaxpr(call)(ps, qs).jaxpr, [])
        return sum(sizes)

    # one normal per coordinate of each point of the five rows
    assert bits(PS, PS) == bits(PS, QS) == 5 * 128 * 2
    assert bits(PS, QS, 1) == 2 * 5 * 128 * 2  # and chunks draw them again


def test_gradients_are_those_of_the_loop(key):
    weight = np.random.default_rng(0).normal(size=(5, 2))
    keys = jax.random.split(key, 5)
    matrix = lambda ps, qs: jnp.sum(weight * gmmjax.pairwise(kl, key, ps, qs, chunk=1).value)
    gradients = jax.jit(jax.grad(matrix, argnums=(0, 1)))(PS, QS)
    one = jax.jit(jax.grad(lambda p, q, key: kl(key, p, q).value, argnums=(0, 1)))
    expected = jax.tree.map(np.zeros_like, (PS, QS))
    for i, j in np.ndindex(5, 2):
        for total, leaves, k in zip(
            expected, one(at(PS, i), at(QS, j), keys[i]), (i, j), strict=True
        ):
            for t, leaf in zip(total, leaves, strict=True):
                t[k] += weight[i, j] * leaf
    close(gradients, expected, 1e-10)
    assert all(np.abs(leaf).max() > 0.1 for leaf in expected[0])


def test_array_keywords_are_traced_and_others_static():
    scaled = lambda p, q, bandwidth, power: gap(p, q) ** power / bandwidth
    total = lambda b: jnp.sum(gmmjax.pairwise(scaled, None, PS, QS, bandwidth=b, power=2))
    np.testing.assert_allclose(jax.grad(total)(jnp.array(2.0)), -total(jnp.array(2.0)) / 2)


def test_one_compilation_per_shape(key):
    pairwise._map.clear_cache()
    for seed in range(3):
        gmmjax.pairwise(
            noisy, jax.random.key(seed), jax.tree.map(lambda leaf, s=seed: leaf + 0.1 * s, PS), QS
        )
    assert pairwise._map._cache_size() == 1


def test_progress_is_the_same_matrix(key, capsys):
    close(gmmjax.pairwise(noisy, key, PS, QS, progress=True), gmmjax.pairwise(noisy, key, PS, QS))
    assert "5/5" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress: .*concrete"):
        jax.jit(lambda ps: gmmjax.pairwise(noisy, key, ps, QS, progress=True))(PS)


def test_progress_without_its_extra(key, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "tqdm":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"gmmjax\[progress\]"):
        gmmjax.pairwise(noisy, key, PS, QS, progress=True)


def test_errors(key):
    one = at(PS, 0)
    with pytest.raises(TypeError, match="key: kl_divergence is an estimate and needs"):
        gmmjax.pairwise(gmmjax.kl_divergence, None, PS)
    with pytest.raises(
        TypeError, match="key: mw2_squared is deterministic and takes no key; pass None"
    ):
        gmmjax.pairwise(gmmjax.mw2_squared, key, PS)
    with pytest.raises(TypeError, match="key: expected a JAX key"):
        gmmjax.pairwise(gmmjax.kl_divergence, PS, QS)
    with pytest.raises(ValueError, match=r"ps: expected a batch.*stack.*\(3, 2\)"):
        gmmjax.pairwise(gap, None, one)
    with pytest.raises(ValueError, match="qs: expected a batch"):
        gmmjax.pairwise(gap, None, PS, one)
    with pytest.raises(TypeError, match="ps: expected a batch.*got list"):
        gmmjax.pairwise(gap, None, [one, one])
    with pytest.raises(ValueError, match=r"ps\[0\].scale.*\(3, 7\)"):
        gmmjax.pairwise(gap, None, PS._replace(scale=jnp.ones((5, 3, 7))))
    with pytest.raises(ValueError, match="qs: has means.*another dimension"):
        gmmjax.pairwise(gap, None, PS, gmmjax.stack([random_mixture(0, 2, 3)]))
    with pytest.raises(ValueError, match="chunk: expected at least 1, got 0"):
        gmmjax.pairwise(gap, None, PS, chunk=0)
    with pytest.raises(ValueError, match="symmetric: .*qs"):
        gmmjax.pairwise(gap, None, PS, QS, symmetric=True)
    with pytest.raises(TypeError, match="divergence: expected a function, got 'kl'"):
        gmmjax.pairwise("kl", None, PS)
