"""Matrices of divergences against the Python loop that they replace."""

import builtins
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture
from programs import inner_programs, makes_normals

import gmmjax
from gmmjax._evaluation import rows, schedule
from gmmjax._mixture.gmm import index as at

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


def loop(function, keys, ps, qs):
    """The matrix, one pair after the other."""
    one = jax.jit(function)
    shape = len(ps.means), len(qs.means)
    entries = [one(keys[i], at(ps, i), at(qs, j)) for i, j in np.ndindex(shape)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves).reshape(shape), *entries)


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
    def one_more(p, q):
        return 1 + gap(p, q)

    def noisy_one_more(key, p, q):
        return 1 + noisy(key, p, q).value

    matrix = gmmjax.pairwise(one_more, None, PS)
    np.testing.assert_array_equal(np.diagonal(matrix), np.ones(5))
    close(gmmjax.pairwise(one_more, None, PS, symmetric=True), matrix)
    np.testing.assert_array_equal(np.diagonal(gmmjax.pairwise(noisy_one_more, key, PS)), np.ones(5))


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_symmetric_functions_compute_half(size):
    # Each pair once, and each but the diagonal is there: a row has size // 2 columns.
    plan = schedule.all_pairs(size, symmetric=True, zero_diagonal=True)
    assert plan.columns.shape == (size, max(1, size // 2))
    found = plan.columns[plan.row, plan.place]
    i, j = np.indices((size, size))
    as_it_is = (plan.row == i) & (found == j)
    mirrored = (plan.row == j) & (found == i)
    assert (as_it_is | mirrored | (i == j)).all()
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


def test_leaves_of_any_shape():
    costs = gmmjax.pairwise(gmmjax.mw2_coupling, None, PS, QS)
    assert costs.shape == (5, 2, 3, 3)
    close(costs[3, 1], gmmjax.mw2_coupling(at(PS, 3), at(QS, 1)))


def test_deterministic_functions():
    distances = gmmjax.pairwise(gmmjax.mw2_squared, None, PS)
    np.testing.assert_array_equal(distances, distances.T)
    close(distances[1, 4], gmmjax.mw2_squared(at(PS, 1), at(PS, 4)))


def test_single_precision_stays_single():
    assert gmmjax.pairwise(gap, None, cast(PS, jnp.float32)).dtype == jnp.float32


def test_the_points_of_a_row_are_drawn_once(key):
    def normals(ps, qs, chunk=None):
        def call(ps, qs):
            return gmmjax.pairwise(kl, key, ps, qs, chunk=chunk)

        return count_normals(jax.make_jaxpr(call)(ps, qs).jaxpr)

    # one normal per coordinate of each point of the five rows
    assert normals(PS, PS) == normals(PS, QS) == 5 * 128 * 2
    assert normals(PS, QS, 1) == 2 * 5 * 128 * 2  # and chunks draw them again


def count_normals(jaxpr, repeats=1):
    """How many normal numbers a program makes, loops included."""
    count = 0
    for equation in jaxpr.eqns:
        if makes_normals(equation):
            count += repeats * equation.outvars[0].aval.size
        length = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in inner_programs(equation):
            count += count_normals(inner, repeats * length)
    return count


def test_gradients_are_those_of_the_loop(key):
    weight = np.random.default_rng(0).normal(size=(5, 2))
    keys = jax.random.split(key, 5)

    def total(ps, qs):
        return jnp.sum(weight * gmmjax.pairwise(kl, key, ps, qs, chunk=1).value)

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(PS, QS)
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
    def scaled(p, q, bandwidth, power):
        return gap(p, q) ** power / bandwidth

    def total(bandwidth):
        return jnp.sum(gmmjax.pairwise(scaled, None, PS, QS, bandwidth=bandwidth, power=2))

    np.testing.assert_allclose(jax.grad(total)(jnp.array(2.0)), -total(jnp.array(2.0)) / 2)


def test_one_compilation_per_shape():
    seen = []

    def counted(key, p, q):
        seen.append(key)
        return noisy(key, p, q)

    def traces(seed, qs):
        before = len(seen)
        shifted = jax.tree.map(lambda leaf: leaf + 0.1 * seed, PS)
        gmmjax.pairwise(counted, jax.random.key(seed), shifted, qs)
        return len(seen) - before

    assert traces(0, QS) > 0
    assert traces(1, QS) == traces(2, QS) == 0
    assert traces(0, PS) > 0


def test_progress_is_the_same_matrix(key, capsys):
    close(gmmjax.pairwise(noisy, key, PS, QS, progress=True), gmmjax.pairwise(noisy, key, PS, QS))
    assert "5/5" in capsys.readouterr().err


def test_a_list_and_a_dict_are_batches(key):
    some = [at(PS, i) for i in range(2)]
    batch = gmmjax.pairwise(noisy, key, gmmjax.stack(some))
    close(gmmjax.pairwise(noisy, key, some), batch)
    close(gmmjax.pairwise(noisy, key, dict(zip("ab", some, strict=True))), batch)
    close(gmmjax.pairwise(noisy, key, some, tuple(some)).value, batch.value)


def test_the_key_comes_second():
    with pytest.raises(TypeError, match="key: expected a JAX key after the divergence, .* got GMM"):
        gmmjax.pairwise(noisy, PS)


def test_progress_under_jit_is_refused(key):
    with pytest.raises(TypeError, match="progress, checkpoint: .*concrete"):
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


BAD_PS = PS._replace(scale=jnp.ones((5, 3, 7)))
IN_SPACE = gmmjax.stack([random_mixture(0, 2, 3)])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((gmmjax.kl_divergence, None, PS), {}, "key: kl_divergence is an estimate and needs"),
        ((gmmjax.kl_divergence, PS, QS), {}, "key: expected a JAX key"),
        ((gap, None, at(PS, 0)), {}, r"ps: expected a batch.*stack.*\(3, 2\)"),
        ((gap, None, PS, at(PS, 0)), {}, "qs: expected a batch"),
        ((gap, None, [PS, PS]), {}, r"ps\[0\].means: is a batch"),
        ((gap, None, PS, []), {}, "qs: expected at least one GMM"),
        ((gap, None, BAD_PS), {}, r"ps\[0\].scale.*\(3, 7\)"),
        ((gap, None, PS, IN_SPACE), {}, "qs: has means.*another dimension"),
        ((gap, None, PS), {"chunk": 0}, "chunk: expected at least 1, got 0"),
        ((gap, None, PS, QS), {"symmetric": True}, "symmetric: .*qs"),
        (("kl", None, PS), {}, "divergence: expected a function, got 'kl'"),
        ((min, None, PS), {}, "divergence: .*does not say which arguments it takes; wrap it"),
    ],
)
def test_bad_arguments_are_named(arguments, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        gmmjax.pairwise(*arguments, **options)


def test_a_key_that_is_not_wanted(key):
    with pytest.raises(TypeError, match="mw2_squared is deterministic and takes no key; pass None"):
        gmmjax.pairwise(gmmjax.mw2_squared, key, PS)


def test_a_matrix_that_was_killed_goes_on(tmp_path, key, monkeypatch):
    path = tmp_path / "matrix.npz"
    whole = gmmjax.pairwise(noisy, key, PS, QS)
    computed, compute = [], rows.compute

    def interrupted(*arguments):
        computed.append(1)
        if len(computed) == 4:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(rows, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gmmjax.pairwise(noisy, key, PS, QS, checkpoint=path)
    before = len(computed)
    found = gmmjax.pairwise(noisy, key, PS, QS, checkpoint=path)
    close(found, whole)
    assert len(computed) - before < 5  # not all rows again
    with pytest.raises(ValueError, match="checkpoint: .* another matrix"):
        gmmjax.pairwise(noisy, key, QS, PS, checkpoint=path)
    gmmjax.save(path, at(PS, 0))
    with pytest.raises(ValueError, match="checkpoint: .* not a matrix"):
        gmmjax.pairwise(noisy, key, PS, QS, checkpoint=path)


def test_rows_of_a_checkpoint_are_taken_as_they_are(tmp_path, key):
    """The twin: another number in the file is another number in the matrix."""
    path = tmp_path / "matrix.npz"
    whole = gmmjax.pairwise(noisy, key, PS, QS, checkpoint=path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"rows0": arrays["rows0"] + 1})
    changed = gmmjax.pairwise(noisy, key, PS, QS, checkpoint=path)
    np.testing.assert_allclose(changed.value, whole.value + 1)
