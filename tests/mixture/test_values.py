"""Values at hand: weights in log space, rounding said aloud, nonsense refused, absent ones free."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax._mixture import rounding
from gmmjax._mixture.gmm import _judged, as_float


@pytest.fixture
def single():
    """JAX as it comes, without float64."""
    with jax.enable_x64(False):
        yield


def along_a_line(weights):
    """Components of deviation 1 that do not overlap."""
    means = 500.0 * np.arange(len(weights))[:, None]
    return gmmjax.from_covariances(weights, means, np.ones(len(weights)))


def test_a_weight_that_float32_does_not_have(single):
    p = gmmjax.from_covariances([1.0], [[100.0]], [1.0])
    q = gmmjax.from_covariances([1 - 1e-40, 1e-40], [[0.0], [100.0]], [1.0, 1.0])
    value, stderr = gmmjax.kl_divergence(jax.random.key(0), p, q)
    np.testing.assert_allclose(value, 40 * np.log(10), atol=3 * stderr)
    assert stderr < 1e-3
    # rounded first it is gone, and with it all of q that p could meet: 5000 nats
    assert np.float32(1e-40) / np.float32(1) < np.finfo(np.float32).tiny


@pytest.mark.parametrize("weights", [[1e-50, 3e-50], [1e-320, 3e-320], [4e37, 1.2e38], [1e308] * 4])
def test_weights_of_any_size(single, weights, tmp_path):
    share = np.array(weights) / max(weights)
    share /= share.sum()
    g = along_a_line(weights)
    np.testing.assert_allclose(gmmjax.weights(g), share, rtol=1e-3 if weights[0] < 1e-300 else 1e-6)
    mixed = gmmjax.mix([along_a_line([1.0])] * len(weights), weights)
    np.testing.assert_allclose(mixed.logits, g.logits, rtol=1e-6)
    np.savez(tmp_path / "g", weights=weights, means=g.means, covariances=np.ones(len(weights)))
    np.testing.assert_array_equal(gmmjax.load(tmp_path / "g.npz").logits, g.logits)


def test_traced_weights_stay_in_range(single):
    build = jax.jit(along_a_line)
    np.testing.assert_allclose(build(jnp.array([3e38, 3e38])).logits, -np.log([2, 2]), rtol=1e-6)


def test_a_file_keeps_every_weight(single, tmp_path):
    g = gmmjax.GMM(jnp.array([0.0, -115.0]), jnp.array([[0.0], [1.0]]), jnp.ones(2))
    gmmjax.save(tmp_path / "g", g)
    np.testing.assert_allclose(gmmjax.load(tmp_path / "g").logits, g.logits)
    with pytest.warns(UserWarning, match="weight below 1e-308"):
        gmmjax.save(tmp_path / "g", g._replace(logits=jnp.array([0.0, -800.0])))


@pytest.mark.parametrize(
    ("w", "v"),
    [([0.9999, 1e-4], [0.997, 0.003]), ([0.5, 0.5], [0.5001, 0.4999])],
)
def test_weights_near_one_keep_their_digits(single, w, v):
    """Of log 0.9999 float32 holds seven digits, of log(1 + 0.0001) by a sum three."""
    value, stderr = gmmjax.kl_divergence(jax.random.key(0), along_a_line(w), along_a_line(v))
    truth = np.dot(w, np.log(w) - np.log(v))
    assert abs(value - truth) <= 2 * stderr
    assert stderr < 2e-7
    assert np.log(np.float32(0.9999)) != np.float32(np.log(0.9999))


MAP = ([[4649776.3], [4649780.1]], [0.25, 0.25])


def test_rounding_of_coordinates_is_said(single):
    with pytest.warns(
        UserWarning, match="component 0 by 0.4 standard dev.*enable_x64.*origin"
    ) as w:
        gmmjax.from_covariances([0.5, 0.5], *MAP)
    assert w[0].filename == __file__
    origin = np.array([[4649778.0]])
    gmmjax.from_covariances([0.5, 0.5], MAP[0] - origin, MAP[1])  # and with the remedy nothing is
    with pytest.warns(UserWarning, match="p.means: rounding to float32 moves.*0.4 standard"):
        gmmjax.entropy_bounds(gmmjax.GMM(np.zeros(2), np.array(MAP[0]), np.sqrt(MAP[1])))
    g = gmmjax.from_covariances([1.0], [[0.0]], [0.25])
    with pytest.warns(UserWarning, match="x: rounding to float32 moves a point by 0.4"):
        gmmjax.log_prob(g, np.array(MAP[0]))


@pytest.mark.parametrize(
    ("matrix", "offset", "component"),
    [(1.0, 1e6, 0), ([2.0], [1e6 + 1], 0), ([[0.5]], [1e6 + 0.485], 1)],
)
def test_an_offset_that_swallows_means_is_said(single, matrix, offset, component):
    g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.03], [1.0]]), jnp.ones(2))
    words = f"means of A x . b: rounding.*component {component} by 0.0.*enable_x64"
    with pytest.warns(UserWarning, match=words) as heard:
        gmmjax.affine(g, matrix, offset)
    assert len(heard) == 1
    gmmjax.affine(g, matrix, 1.0)
    gmmjax.affine(g._replace(scale=jnp.zeros(2)), matrix, offset)  # nothing to measure it by
    jax.jit(gmmjax.affine)(g, jnp.asarray(matrix), jnp.asarray(offset))


def test_what_was_lost_before_is_not_said(single):
    """Arrays of JAX in float32 are what they are: the docstring of `GMM` says so."""
    g = gmmjax.GMM(jnp.zeros(1), jnp.array([[1e6 + 0.03]]), jnp.ones(1))
    assert gmmjax.mean(g) == 1e6
    with pytest.warns(UserWarning, match="g.means: rounding to float32 moves"):
        gmmjax.mean(g._replace(means=np.array([[1e6 + 0.03]])))


def test_with_float64_nothing_is_rounded():
    gmmjax.from_covariances([0.5, 0.5], *MAP)


def test_rounding_of_times_is_said(single):
    """Seconds since 1970 are integers."""
    with pytest.warns(UserWarning, match="component 1 by"):
        gmmjax.from_covariances([1, 1], np.array([[0], [1764230401]]), [1, 1])


def test_a_narrow_direction_counts(single):
    """Coordinates with deviations of 1 that are all but equal differ by very little."""
    covariance = np.array([[1.0, 1 - 1e-9], [1 - 1e-9, 1.0]])
    with pytest.warns(UserWarning, match="means: rounding"):
        gmmjax.from_covariances([1.0], [[3.3, -3.3]], covariance[None])
    gmmjax.from_covariances([1.0], [[3.3, -3.3]], np.eye(2)[None])


def test_a_lost_eigenvalue_is_said(single):
    row = 0.7
    covariance = np.array([[1.0, row], [row, row**2 + 1e-14]])
    with pytest.warns(UserWarning, match="covariances: rounding.*smallest eigenvalue"):
        gmmjax.from_covariances([1.0], [[0.0, 0.0]], covariance[None])


@pytest.mark.parametrize(
    ("means", "covariances", "words"),
    [
        ([[0.0]], [1e-80], "standard deviation of 1e-40, of component 0, is out of the range"),
        ([[0.0]], [1e80], "standard deviation of 1e.40"),
        ([[1e39]], [1e76], "means: that of component 0 is too large for float32"),
    ],
)
def test_what_float32_cannot_hold_is_refused(single, means, covariances, words):
    with pytest.raises(ValueError, match=words):
        gmmjax.from_covariances([1.0], means, covariances)


ABSENT = {
    "singular": (np.zeros(2), np.zeros((2, 2))),
    "NaN": (np.full(2, np.nan), np.full((2, 2), np.nan)),
    "huge": (np.full(2, 1e300), 1e300 * np.eye(2)),
}


@pytest.mark.parametrize("name", ABSENT)
def test_absent_components_may_hold_anything(name, key):
    mean, matrix = ABSENT[name]
    g = random_mixture(0, 3, 2)
    parts = gmmjax.weights(g), g.means, gmmjax.covariances(g)
    fourth = [0.0], mean[None], matrix[None]
    with_one = [np.concatenate([a, b]) for a, b in zip(parts, fourth, strict=True)]
    q = random_mixture(1, 3, 2)
    kl = jax.jit(jax.value_and_grad(lambda g: gmmjax.kl_divergence(key, g, q, num_samples=256)[0]))
    (value, gradient) = kl(g)
    built = gmmjax.from_covariances(*with_one)
    traced = jax.jit(gmmjax.from_covariances)(*with_one)
    given = gmmjax.GMM(
        jnp.append(g.logits, -jnp.inf),
        jnp.asarray(with_one[1]),
        jnp.concatenate([g.scale, jnp.asarray(matrix)[None]]),
    )
    for other in (built, traced, given):
        of_other, slopes = kl(other)
        np.testing.assert_allclose(of_other, value, rtol=1e-9)
        for a, b in zip(gradient, slopes, strict=True):
            np.testing.assert_allclose(b[:3], a, rtol=1e-6, atol=1e-9)
            assert (b[3] == 0).all()
        assert np.isfinite(gmmjax.log_prob(other, np.zeros(2)))
    present = given._replace(logits=given.logits.at[3].set(0.0))
    if name != "huge":
        with pytest.raises(ValueError, match="g.(means: expected finite|scale: a standard dev)"):
            gmmjax.log_prob(present, np.zeros(2))


BAD = {
    "logits: expected.*nan": {"logits": jnp.array([0.0, jnp.nan])},
    "logits: expected.*not for all": {"logits": jnp.full(2, -jnp.inf)},
    r"means: expected finite values, got \[inf": {"means": jnp.array([[0.0], [jnp.inf]])},
    "scale: expected finite values, got nan": {"scale": jnp.array([1.0, jnp.nan])},
    "scale: a standard deviation is 0": {"scale": jnp.array([1.0, 0.0])},
}


@pytest.mark.parametrize("message", BAD)
def test_an_unusable_mixture_is_refused_by_name(message, key):
    good = gmmjax.GMM(jnp.zeros(2), jnp.zeros((2, 1)), jnp.ones(2))
    bad = good._replace(**BAD[message])
    for call in (
        lambda p, q: gmmjax.kl_divergence(key, p, q, num_samples=64),
        lambda p, q: gmmjax.js_divergence(key, p, q, num_samples=64),
        gmmjax.ise,
        gmmjax.kl_bounds,
    ):
        with pytest.raises(ValueError, match=f"q.{message}"):
            call(good, bad)
    assert np.isnan(jax.jit(gmmjax.ise)(good, bad))  # where nothing can be raised


def test_moments_need_no_density():
    g = gmmjax.GMM(jnp.zeros(2), jnp.array([[0.0], [4.0]]), jnp.zeros(2))
    assert gmmjax.covariance(g) == 4
    assert set(np.ravel(gmmjax.sample(jax.random.key(0), gmmjax.pad(g, 3), 50))) == {0.0, 4.0}
    assert gmmjax.affine(gmmjax.marginal(g, 0), 2.0).means[1] == 8


def test_a_square_table_may_be_one_covariance():
    tied = np.array([[1.0, 0.5], [0.5, 2.0]])
    with pytest.warns(UserWarning, match=r"taken for variances.*covariances\[None\].*numpy.diag"):
        g = gmmjax.from_covariances([0.5, 0.5], np.eye(2), tied)
    assert g.scale.shape == (2, 2)
    with pytest.raises(ValueError, match=r"got -0.5; for one covariance .*covariances\[None\]"):
        gmmjax.from_covariances([0.5, 0.5], np.eye(2), tied * [[1, -1], [-1, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = [
            tied[None],
            [np.diag(row) for row in tied],
            [[1.0, 0.5], [0.4, 2.0]],
            np.ones((2, 2)),
        ]
        for table in both:
            gmmjax.from_covariances([0.5, 0.5], np.eye(2), table)


class Frame:
    """What NumPy makes of a frame of nullable columns: Python's numbers, one by one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=object)


def test_nullable_frames():
    g = gmmjax.from_covariances(Frame([1, 3]), Frame([[0.0], [1]]), Frame([1.0, 2.0]))
    np.testing.assert_allclose(gmmjax.weights(g), [0.25, 0.75])
    assert gmmjax.log_prob(g, Frame([[0.5], [1.0]])).shape == (2,)
    for missing in (None, "a", True, 1j):
        with pytest.raises(ValueError, match=f"x: expected real numbers.*{missing!r}"):
            gmmjax.log_prob(g, Frame([[0.5], [missing]]))


def test_padding_keeps_the_density_and_the_program(key):
    q = random_mixture(9, 2, 2)
    traces = []

    @jax.jit
    def kl(p):
        traces.append(1)
        return gmmjax.kl_divergence(key, p, q, num_samples=256).value

    for count in (1, 2, 4):
        g = random_mixture(count, count, 2, kind="diagonal")
        np.testing.assert_allclose(
            kl(gmmjax.pad(g, 4)),
            gmmjax.kl_divergence(key, g, q, num_samples=1 << 14).value,
            rtol=0.2,
        )
        np.testing.assert_allclose(
            gmmjax.log_prob(gmmjax.pad(g, 4), q.means), gmmjax.log_prob(g, q.means), rtol=1e-12
        )
    assert len(traces) == 1
    assert gmmjax.pad(random_mixture(0, 3, 2, kind="tied"), 5).scale.shape == (1, 2, 2)
    with pytest.raises(ValueError, match="num_components: expected at least the 3"):
        gmmjax.pad(random_mixture(0, 3, 2), 2)


def test_rounding_that_harms_nobody_is_silent():
    rng = np.random.default_rng(0)
    means, factor = rng.normal(size=(3, 4)), np.linalg.cholesky(np.cov(rng.normal(size=(4, 9))))
    for scale in (np.ones(3), np.ones((3, 4)), np.broadcast_to(factor, (3, 4, 4))):
        rounding.round_to(np.dtype("float32"), means, scale)


def test_single_precision_is_what_it_was(single):
    g = cast(random_mixture(0, 3, 2), jnp.float32)
    assert {leaf.dtype for leaf in gmmjax.pad(g, 4)} == {jnp.dtype("float32")}


def test_numpy_looks_at_what_is_plain_and_a_program_at_the_rest():
    """For every shape a program would take a tenth of a second to compile."""
    plain = gmmjax.GMM(jnp.zeros(7), jnp.zeros((7, 3)), jnp.tril(jnp.ones((7, 3, 3))))
    before = _judged._cache_size()
    assert as_float("g", plain) is plain
    assert _judged._cache_size() == before
    above = plain._replace(scale=plain.scale + jnp.triu(jnp.full((7, 3, 3), 2.0), 1))
    np.testing.assert_array_equal(as_float("g", above).scale, plain.scale)
    absent = plain._replace(logits=plain.logits.at[0].set(-jnp.inf))
    assert as_float("g", absent) is not absent
    assert _judged._cache_size() == before + 1


def test_constants_of_a_program_may_have_absent_components():
    absent = gmmjax.GMM(jnp.array([0.0, -jnp.inf]), jnp.zeros((2, 1)), jnp.ones(2))
    found = jax.jit(lambda x: gmmjax.log_prob(absent, x))(jnp.ones((3, 1)))
    np.testing.assert_allclose(found, gmmjax.log_prob(absent, jnp.ones((3, 1))))


@pytest.mark.parametrize("shown", ["symmetric, as covariances are", "upper factors"])
def test_matrices_that_are_no_lower_factors_are_told(shown):
    covariance = np.array([[2.0, 1.8], [1.8, 2.0]])
    upper = np.linalg.cholesky(covariance).T
    scale = jnp.asarray(covariance if shown.startswith("symmetric") else upper)[None]
    g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), scale)
    with pytest.warns(UserWarning, match=f"g.scale: expected lower .* look {shown}"):
        gmmjax.log_prob(g, jnp.zeros(2))
    # Anything else may stand above the diagonal.
    anything = scale + jnp.tril(jnp.ones((1, 2, 2)), -1)
    gmmjax.log_prob(g._replace(scale=anything), jnp.zeros(2))
