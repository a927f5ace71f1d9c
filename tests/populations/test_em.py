"""Maximum likelihood by EM: against scikit-learn, over weights, structures and bad rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._populations.fixed_point import LEAST_VARIANCE


@pytest.fixture(scope="module")
def x():
    """Rows of three components that overlap a little."""
    return np.asarray(gmmjax.sample(jax.random.key(0), population(), 400))


def population():
    return random_mixture(0, 3, 2, spread=3.0)


def start(x, kind):
    """A rough fit of scikit-learn, and scikit-learn going on from it."""
    mixture = pytest.importorskip("sklearn.mixture").GaussianMixture
    first = mixture(3, covariance_type=kind, random_state=0, max_iter=3, tol=0.0).fit(x)
    finish = mixture(
        3,
        covariance_type=kind,
        weights_init=first.weights_,
        means_init=first.means_,
        precisions_init=first.precisions_,
        reg_covar=0.0,
        tol=0.0,
        max_iter=800,
    )
    return gmmjax.interop.from_sklearn(first), finish


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_agrees_with_scikit_learn(x, kind):
    init, model = start(x, kind)
    expected = gmmjax.interop.from_sklearn(model.fit(x))
    found = gmmjax.em(x, init)
    assert found.converged
    assert found.gmm.scale.shape == init.scale.shape
    assert found.loss.value == pytest.approx(-model.score(x), abs=1e-9)
    assert found.loss.value < found.start.value - 1e-4
    np.testing.assert_allclose(gmmjax.weights(found.gmm), gmmjax.weights(expected), atol=1e-6)
    np.testing.assert_allclose(found.gmm.means, expected.means, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.gmm.scale, expected.scale, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def init():
    g = population()
    return g._replace(means=g.means + 0.5, scale=1.5 * g.scale)


@pytest.fixture(scope="module")
def found(x, init):
    return gmmjax.em(x, init)


def test_the_loss_is_the_mean_negative_log_likelihood(x, init, found):
    losses = -gmmjax.log_prob(found.gmm, x)
    assert found.loss.value == pytest.approx(np.mean(losses))
    assert found.loss.stderr == pytest.approx(np.std(losses, ddof=1) / 20)
    assert found.start.value == pytest.approx(-np.mean(gmmjax.log_prob(init, x)))


def test_the_loss_falls_in_every_step(found):
    taken = int(found.num_steps)
    assert 3 < taken < len(found.losses)
    assert found.losses[0] == pytest.approx(found.start.value)
    assert (np.diff(found.losses[:taken]) < 1e-12).all()
    assert np.isnan(found.losses[taken:]).all()
    assert np.isnan(found.gradient_norms[taken:]).all()


def test_too_few_steps_do_not_converge(x, init):
    short = gmmjax.em(x, init, num_steps=2)
    assert not short.converged
    assert short.num_steps == 2


def test_units_change_nothing(x, init, found):
    """Which an absolute floor, as scikit-learn's, would not pass for such small units."""
    unit = jnp.array([1e-6, 1e6])
    moved = gmmjax.em(x * unit[None], gmmjax.affine(init, jnp.diag(unit)))
    np.testing.assert_allclose(moved.gmm.means, found.gmm.means * unit[None], rtol=1e-6)


def test_weights_are_repetitions(x, init):
    counts = np.random.default_rng(0).integers(0, 3, size=len(x))
    weighted = gmmjax.em(x, init, weights=counts)
    repeated = gmmjax.em(np.repeat(x, counts, axis=0), init)
    np.testing.assert_allclose(weighted.gmm.means, repeated.gmm.means, rtol=1e-6)
    assert weighted.loss.value == pytest.approx(repeated.loss.value)
    assert not np.allclose(weighted.gmm.means, gmmjax.em(x, init).gmm.means, rtol=1e-4)


def test_a_batch_of_weights_is_a_loop(x, init):
    weights = np.random.default_rng(0).uniform(size=(2, len(x)))
    batch = jax.vmap(lambda w: gmmjax.em(x, init, weights=w).gmm.means)(weights)
    for means, w in zip(batch, weights, strict=True):
        np.testing.assert_allclose(means, gmmjax.em(x, init, weights=w).gmm.means, rtol=1e-7)


def test_blocks_of_rows_change_nothing(x, init, found, monkeypatch):
    monkeypatch.setattr("gmmjax._populations.rows.BLOCK", 150)
    blocks = gmmjax.em(x, init, num_steps=1001)  # compiled anew
    np.testing.assert_allclose(blocks.gmm.means, found.gmm.means, rtol=1e-7)


def test_absent_components_stay_absent(x, init):
    absent = gmmjax.GMM(
        jnp.append(init.logits, -jnp.inf),
        jnp.concatenate([init.means, jnp.full((1, 2), 7.0)]),
        jnp.concatenate([init.scale, jnp.zeros((1, 2, 2))]),
    )
    found = gmmjax.em(x, absent).gmm
    assert found.logits[3] == -jnp.inf
    assert np.isfinite(found.means[3]).all()
    assert np.isfinite(found.scale[3]).all()
    np.testing.assert_allclose(found.means[:3], gmmjax.em(x, init).gmm.means, rtol=1e-6)


def test_a_component_of_few_rows_stays():
    """Of 8 among 20,000: one of less than a hundred-millionth alone would be dead."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=19_992), 50 + rng.normal(size=8)])[:, None]
    init = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [50.0]]), jnp.ones((2, 1)))
    found = gmmjax.em(x, init).gmm
    np.testing.assert_allclose(gmmjax.weights(found), [0.9996, 0.0004], rtol=1e-6)
    np.testing.assert_allclose(found.means[1], x[-8:].mean(axis=0))


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_component_on_one_point_keeps_a_millionth_of_the_deviation(x, kind):
    size = {"full": 1e-3 * np.eye(2), "diag": [1e-3, 1e-3], "spherical": 1e-3}[kind]
    wide = {"full": 3 * np.eye(2), "diag": [3.0, 3.0], "spherical": 3.0}[kind]
    init = gmmjax.GMM(
        jnp.array([-5.0, 0.0]),
        jnp.asarray(np.stack([x[0], x.mean(axis=0)])),
        jnp.asarray(np.stack([size, wide])),
    )
    with pytest.warns(UserWarning, match=r"em: components \[0\] have shrunk"):
        found = gmmjax.em(x, init).gmm
    spread = x.var(axis=0) if kind != "spherical" else x.var(axis=0).mean()
    variances = np.diagonal(gmmjax.covariances(found)[0])
    np.testing.assert_allclose(variances, LEAST_VARIANCE * spread, rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_lies_far_away_changes_no_cluster(dtype, kind):
    """Clusters and an outlier as far apart as a sentinel of 999,999 is: none of the rest widens."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 2)) + np.repeat([[0.0], [1e4]], 400, axis=0)
    x[-1] = 999_999
    scale = {"full": np.stack([np.eye(2)] * 3), "diag": np.ones((3, 2)), "spherical": np.ones(3)}
    means = jnp.array([[0.0, 0.0], [1e4, 1e4], [1e6, 1e6]])
    init = gmmjax.GMM(jnp.zeros(3), means, jnp.asarray(scale[kind]))
    with pytest.warns(UserWarning, match=r"em: components \[2\] have shrunk"):
        found = gmmjax.em(x.astype(dtype), jax.tree.map(jnp.dtype(dtype).type, init)).gmm
    clusters = np.stack([x[:400].var(axis=0), x[400:-1].var(axis=0)])
    if kind == "spherical":
        clusters = clusters.mean(axis=1, keepdims=True) * np.ones(2)
    variances = np.diagonal(gmmjax.covariances(found), axis1=1, axis2=2)[:2]
    np.testing.assert_allclose(variances, clusters, rtol=0.02 if dtype == "float32" else 1e-4)


def test_single_precision_stays_single(x, init, found):
    single = gmmjax.em(x.astype(np.float32), jax.tree.map(jnp.float32, init))
    assert {leaf.dtype for leaf in single.gmm} == {jnp.dtype("float32")}
    np.testing.assert_allclose(single.gmm.means, found.gmm.means, rtol=0.01)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_squares_of_rows_may_be_out_of_range(x, init, found, unit):
    """In float32, whose largest square is that of 1e19: both of these gave NaN."""
    single = jax.tree.map(lambda leaf: (unit * leaf).astype(jnp.float32), (x, init))
    moved = gmmjax.em(single[0], single[1]._replace(logits=init.logits.astype(jnp.float32)))
    np.testing.assert_allclose(moved.gmm.means / np.float32(unit), found.gmm.means, rtol=0.01)


@pytest.mark.parametrize("unit", [1e-320, 1e307])
def test_weights_of_rows_have_no_unit(x, init, unit):
    counts = np.random.default_rng(0).integers(0, 9, size=len(x))
    expected, moved = (gmmjax.em(x, init, weights=w, num_steps=2) for w in (counts, unit * counts))
    np.testing.assert_allclose(moved.loss.value, expected.loss.value, rtol=1e-3)


def test_a_start_that_sees_no_row_is_refused(x, init):
    far = gmmjax.affine(init, 1.0, 1e160)
    with pytest.raises(ValueError, match="init: the mean of its log-density.*-inf.*nearer"):
        gmmjax.em(x, far)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tol": 1j}, "tol: expected a number of at least 0, got 1j"),
        ({"tol": np.ones(2)}, "tol: expected a number"),
        ({"tol": "a"}, "tol: expected a number of at least 0, got 'a'"),
        ({"num_steps": 10**20}, "num_steps: expected at most"),
    ],
)
def test_bad_ends(x, init, given, words):
    with pytest.raises(ValueError, match=words):
        gmmjax.em(x, init, **given)


@pytest.mark.parametrize("bad", [np.ones(3, complex), np.zeros(3, "V8")])
def test_a_start_that_is_no_numbers_is_refused(x, init, bad):
    with pytest.raises(TypeError, match="init: expected (float32|arrays of numbers)"):
        gmmjax.em(x, init._replace(logits=bad))


class DataFrame:
    """What a data frame looks like: something with values."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize("convert", [np.ndarray.tolist, DataFrame])
def test_what_stands_for_rows(x, init, convert):
    rows = np.round(10 * x[:50]).astype(int)
    expected = gmmjax.em(rows.astype(float), init, num_steps=2)
    assert gmmjax.em(convert(rows), init, num_steps=2).loss.value == expected.loss.value


@pytest.mark.parametrize("of", ["x", "init", "weights"])
@pytest.mark.parametrize("transform", [jax.grad, jax.jacfwd])
def test_gradients_are_refused(x, init, of, transform):
    given = {"x": jnp.asarray(x), "init": init, "weights": jnp.ones(len(x))}

    def loss(value):
        arguments = {**given, of: value}
        return gmmjax.em(arguments["x"], arguments["init"], weights=arguments["weights"]).loss.value

    with pytest.raises(TypeError, match="em: has no gradient.*stop_gradient.*gmmjax.fit"):
        transform(loss)(given[of])


def test_a_constant_has_a_gradient_of_zero(x, init):
    loss = lambda x: gmmjax.em(jax.lax.stop_gradient(x), init).loss.value
    assert not jax.grad(loss)(jnp.asarray(x)).any()


def with_nan(x):
    x = x.copy()
    x[[3, 5], 1] = np.nan
    return x


class Sparse:
    """What a sparse matrix looks like."""

    def toarray(self):
        """Its dense form."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, r"x: .*row 3 is \[.*nan\].*2 of 400"),
        (lambda x: x[:2], "x: has too few rows, 2 for 3 components"),
        (lambda x: x[:, :1], r"x: expected rows of shape \(N, 2\).*\(400, 1\)"),
        (lambda x: x[:, 0], r"x: expected rows.*\(400,\)"),
        (lambda x: x * [1.0, 0.0], "x: column 1 is 0.0 in all rows"),
        (lambda _: Sparse(), "x: is a sparse matrix.*toarray"),
        (lambda x: x.astype(str), "x: expected real numbers"),
        (lambda x: np.ma.masked_array(x, x > 2), "x: has masked entries; leave their rows out"),
        (lambda x: [[10**400, 1], *x[1:].tolist()], "x: has a number that is too large"),
    ],
)
def test_bad_rows(x, init, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        gmmjax.em(change(x), init)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.r_[1.0, -2.0, np.ones(398)], "weights: .*row 1 has -2.0"),
        (np.r_[np.nan, np.ones(399)], "weights: .*row 0 has nan"),
        (np.zeros(400), "weights: all 400 are 0"),
        (np.ones(3), r"weights: expected shape \(400,\).*\(3,\)"),
    ],
)
def test_bad_weights(x, init, weights, message):
    with pytest.raises(ValueError, match=message):
        gmmjax.em(x, init, weights=weights)


@pytest.mark.parametrize("bad", ["x", "weights"])
def test_bad_values_under_jit_are_nan(x, init, bad):
    rows = with_nan(x) if bad == "x" else x
    weights = np.full(len(x), -1.0) if bad == "weights" else np.ones(len(x))
    found = jax.jit(lambda x, w: gmmjax.em(x, init, weights=w))(rows, weights)
    assert np.isnan(found.loss.value)
    assert all(np.isnan(leaf).any() for leaf in found.gmm)


def test_rows_that_lose_their_digits_are_said():
    x = 1e6 + np.random.default_rng(0).normal(size=(64, 1))
    with jax.enable_x64(False):
        init = gmmjax.GMM(jnp.zeros(1), jnp.full((1, 1), 1e6), jnp.ones(1))
        words = "x: rounding to float32 moves a point by 0.03.*common origin"
        with pytest.warns(UserWarning, match=words) as heard:
            gmmjax.em(x, init)
        assert len(heard) == 1
        gmmjax.em(x - 1e6, init._replace(means=jnp.zeros((1, 1))))
        with (
            pytest.warns(UserWarning, match="x: rounding to float32 moves a point"),
            pytest.raises(ValueError, match=r"x: column 0 is 1000000.0 in all rows"),
        ):
            gmmjax.em(1e6 + 1e-3 * (x - 1e6), init._replace(scale=jnp.full(1, 1e-3)))


def test_a_start_that_is_far_too_wide_is_refused():
    init = gmmjax.GMM(np.zeros(2), np.array([[0.0], [1.0]]), np.ones(2))
    rows = np.random.default_rng(0).normal(size=(12, 1))
    with pytest.raises(ValueError, match="^init: .*about as wide"):
        gmmjax.em(1e-160 * rows, init)


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 2), (3,)], ids=["full", "diagonal", "spherical"])
def test_a_row_that_does_not_count_may_lie_anywhere(x, init, shape):
    """It had set what variances are at least: a fit ended with deviations of its size."""
    scale = init.scale if len(shape) == 3 else jnp.full(shape, 2.0)
    init = init._replace(scale=scale)
    weights = np.append(np.ones(len(x)), 0.0)
    expected = gmmjax.em(x, init)
    for far in (1e6, 1e30):
        found = gmmjax.em(np.vstack([x, far + x[:1]]), init, weights=weights)
        np.testing.assert_allclose(found.loss.value, expected.loss.value, rtol=1e-6)
        np.testing.assert_allclose(found.gmm.means, expected.gmm.means, atol=1e-3)


def test_a_column_that_is_constant_where_rows_count_is_refused(key):
    x = np.vstack([np.c_[jax.random.normal(key, 100), np.full(100, 0.1)], np.ones((50, 2))])
    start = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=r"x: column 1 is 0\.1 in all rows"):
        gmmjax.em(x, start, weights=np.r_[np.ones(100), np.zeros(50)])
    gmmjax.em(x, start)


def test_rows_of_numpy_may_be_closed_over(x, init):
    weights = jnp.ones(len(x))
    inside = jax.jit(lambda weights: gmmjax.em(np.asarray(x), init, weights=weights).gmm.means)
    np.testing.assert_allclose(inside(weights), gmmjax.em(x, init).gmm.means, rtol=1e-6)
