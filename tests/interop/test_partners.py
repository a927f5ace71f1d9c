"""Mixtures of other libraries, both ways, against the libraries themselves where they are
installed.
"""

import sys
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, cast, random_mixture

import gmmjax
from gmmjax import interop

PACKAGES = {
    "numpyro": "numpyro",
    "distrax": "distrax",
    "tfp": "tensorflow_probability",
    "torch": "torch",
    "ott": "ott",
    "gmmx": "gmmx",
}
MODULES = {
    "numpyro": "numpyro.distributions",
    "distrax": "distrax",
    "tfp": "tensorflow_probability.substrates.jax",
    "torch": "torch",
    "ott": "ott.tools.gaussian_mixture.gaussian_mixture",
    "gmmx": "gmmx",
}
X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)

every = pytest.mark.parametrize("name", PACKAGES)


def partner(name):
    """The module of a partner; a release that this JAX breaks counts as missing."""
    try:
        return pytest.importorskip(MODULES[name])
    except AttributeError as error:
        pytest.skip(f"{name} does not import with this JAX: {error}")


def theirs(name, model, x=X):
    """Log-density as the other library computes it."""
    if name == "torch":
        return model.log_prob(sys.modules["torch"].tensor(x)).numpy()
    with jax.numpy_rank_promotion("allow"):
        return np.ravel(model.score_samples(x) if name == "gmmx" else model.log_prob(x))


def round_trip(name, g):
    model = getattr(interop, f"to_{name}")(g)
    return model, getattr(interop, f"from_{name}")(model)


def mixture(kind):
    g = cast(random_mixture(0, 3, 2, kind=kind), jnp.float32)
    return g._replace(scale=-g.scale)  # the sign of the diagonal does not matter


@every
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_round_trip_keeps_the_density(name, kind):
    partner(name)
    g = mixture(kind)
    model, back = round_trip(name, g)
    expected = gmmjax.log_prob(g, X)
    assert expected.dtype == jnp.float32
    read = gmmjax.log_prob(interop.as_gmm(model), X)
    for found in (theirs(name, model), gmmjax.log_prob(back, X), read):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # no structure is lost needlessly
    assert back.scale.ndim == (3 if g.scale.ndim == 3 or name == "ott" else 2)
    assert np.abs(theirs(name, model, X + 0.01) - expected).max() > 1e-3


@every
@pytest.mark.filterwarnings("ignore")
def test_absent_components_are_dropped(name):
    partner(name)
    g = mixture("full")._replace(logits=jnp.array([0.0, 1.0, -jnp.inf], jnp.float32))
    model, back = round_trip(name, g)
    assert back.num_components == 2
    np.testing.assert_allclose(theirs(name, model), gmmjax.log_prob(g, X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["numpyro", "distrax", "tfp", "ott"])
@pytest.mark.filterwarnings("ignore")
def test_libraries_on_jax_are_differentiated_through(name):
    partner(name)
    q = mixture("diagonal")

    def through(logits):
        return gmmjax.log_prob(round_trip(name, q._replace(logits=logits))[1], X).sum()

    direct = jax.grad(lambda logits: gmmjax.log_prob(q._replace(logits=logits), X).sum())(q.logits)
    np.testing.assert_allclose(jax.jit(jax.grad(through))(q.logits), direct, rtol=1e-4, atol=1e-4)


@every
@pytest.mark.filterwarnings("ignore")
def test_wrong_objects(name):
    partner(name)
    reader = getattr(interop, f"from_{name}")
    for wrong in (None, np.zeros(3), mixture("full"), types.SimpleNamespace(loc=1)):
        with pytest.raises(TypeError, match=f"expected {PACKAGES[name]}'s "):
            reader(wrong)
    with pytest.raises(TypeError, match="g: expected a gmmjax.GMM"):
        getattr(interop, f"to_{name}")(None)


@every
def test_what_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == PACKAGES[name]] + [MODULES[name]]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"to_{name} needs .*: pip install "):
        getattr(interop, f"to_{name}")(mixture("full"))


def test_any_mixture():
    g = mixture("full")
    assert interop.as_gmm(g) is g
    sklearn = interop.to_sklearn(g)
    np.testing.assert_allclose(
        gmmjax.log_prob(interop.as_gmm(sklearn), X), sklearn.score_samples(X), rtol=1e-5
    )
    with pytest.raises(
        TypeError,
        match="obj: expected a gmmjax.GMM or a mixture of sklearn, numpyro, .*, got builtins's",
    ):
        interop.as_gmm([g])
    with pytest.raises(TypeError, match="got numpy's ndarray"):
        interop.as_gmm(np.zeros(3))


def scalar_components(name):
    """Three normals on the line, as each library has them; and those that share a scale."""
    loc, one = np.array([0.0, 1.0, 5.0], np.float32), np.float32(2.0)
    if name == "numpyro":
        dist = partner(name)
        shared = dist.Normal(0.5, one).expand([3])
        return (
            dist.MixtureSameFamily,
            dist.Categorical(probs=np.full(3, 1 / 3)),
            [dist.Normal(loc, one), shared],
        )
    if name == "torch":
        torch, dist = partner(name), partner(name).distributions
        normal = dist.Normal(torch.tensor(loc), torch.tensor(one))
        return dist.MixtureSameFamily, dist.Categorical(probs=torch.full((3,), 1 / 3)), [normal]
    package = partner(name)
    dist = package.distributions if name == "tfp" else package
    normal = dist.Normal(jnp.asarray(loc), jnp.full(3, one))
    return dist.MixtureSameFamily, dist.Categorical(probs=jnp.full(3, 1 / 3)), [normal]


@pytest.mark.parametrize("name", ["numpyro", "distrax", "tfp", "torch"])
@pytest.mark.filterwarnings("ignore")
def test_normals_on_the_line(name):
    family, mixing, choices = scalar_components(name)
    x = X[:, 0]
    for components in choices:
        model = family(mixing, components)
        g = interop.as_gmm(model)
        assert g.means.shape == (3, 1)
        np.testing.assert_allclose(
            gmmjax.log_prob(g, x[:, None]), theirs(name, model, x), rtol=1e-5
        )


def numpyro_components(dist):
    """Other components than those that we write."""
    zeros = jnp.zeros((2, 2))
    yield dist.LowRankMultivariateNormal(
        zeros, jnp.ones((2, 2, 1)), jnp.array([[1.0, 2.0], [2.0, 3.0]])
    )
    yield dist.MultivariateNormal(
        jnp.array([[0.0, 0.0], [1.0, 2.0]]), scale_tril=jnp.array([[1.0, 0.0], [0.5, 2.0]])
    )
    yield dist.MultivariateNormal(zeros, precision_matrix=jnp.array([[2.0, 0.3], [0.3, 1.0]]))
    yield dist.Normal(jnp.arange(4.0).reshape(2, 2), 3.0).to_event(1)


@pytest.mark.filterwarnings("ignore")
def test_other_components_of_numpyro():
    dist = partner("numpyro")
    mixing = dist.Categorical(probs=jnp.array([0.3, 0.7]))
    for components in numpyro_components(dist):
        model = dist.MixtureSameFamily(mixing, components)
        g = interop.from_numpyro(model)
        np.testing.assert_allclose(gmmjax.log_prob(g, X), theirs("numpyro", model), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_components_that_are_not_normal_are_refused():
    dist = partner("numpyro")
    mixing = dist.Categorical(probs=jnp.array([0.3, 0.7]))
    model = dist.MixtureSameFamily(mixing, dist.StudentT(3.0, jnp.zeros(2), 1.0))
    words = "Independent.Normal. or MultivariateNormal, got numpyro's StudentT"
    with pytest.raises(TypeError, match=words):
        interop.from_numpyro(model)


@pytest.mark.filterwarnings("ignore")
def test_other_families_are_refused():
    dist = partner("numpyro")
    mixing = dist.Categorical(probs=jnp.array([0.3, 0.7]))
    model = dist.MixtureGeneral(mixing, [dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0)])
    words = "MixtureSameFamily, or a normal distribution, got numpyro's MixtureGeneral"
    with pytest.raises(TypeError, match=words):
        interop.as_gmm(model)


@pytest.mark.filterwarnings("ignore")
def test_a_normal_distribution_is_a_mixture_of_one():
    dist = partner("numpyro")
    covariance = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    for model in (
        dist.Normal(0.5, 2.0),
        dist.Normal(1.0, jnp.array([2.0, 3.0])).to_event(1),
        dist.MultivariateNormal(jnp.ones(2), covariance),
    ):
        g = interop.as_gmm(model)
        assert g.num_components == 1
        x = X[:, : g.dim]
        expected = theirs("numpyro", model, x)
        np.testing.assert_allclose(gmmjax.log_prob(g, x), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"is a batch of mixtures, of shape \(3,\)"):
        interop.as_gmm(dist.Normal(jnp.zeros(3), 1.0))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["distrax", "tfp", "torch"])
def test_a_normal_distribution_of_others_is_one_too(name):
    module = partner(name)
    if name == "torch":
        zeros = module.zeros(2)
        one = module.distributions.MultivariateNormal(zeros, scale_tril=2 * module.eye(2))
    else:
        normals = module if name == "distrax" else module.distributions
        one = normals.MultivariateNormalDiag(jnp.zeros(2), jnp.full(2, 2.0))
    g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.full(1, 2.0))
    found = gmmjax.log_prob(interop.as_gmm(one), X)
    np.testing.assert_allclose(found, gmmjax.log_prob(g, X), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_batches_are_refused():
    dist = partner("numpyro")
    mixing = dist.Categorical(probs=jnp.full((4, 2), 0.5))
    batch = dist.MixtureSameFamily(mixing, dist.Normal(jnp.zeros((4, 2)), 1.0))
    with pytest.raises(ValueError, match=r"is a batch of mixtures, of shape \(4,\)"):
        interop.as_gmm(batch)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.filterwarnings("default")
def test_tensors_in_double_precision_are_rounded_aloud(full):
    """Of float64 there is more in PyTorch than in JAX as it comes."""
    torch = partner("torch")
    dist = torch.distributions

    def model(loc, dtype):
        loc = torch.tensor(loc, dtype=dtype)
        if full:
            normal = dist.MultivariateNormal(loc, torch.eye(1, dtype=dtype).expand(2, 1, 1))
        else:
            normal = dist.Independent(dist.Normal(loc, torch.ones(2, 1, dtype=dtype)), 1)
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(2, dtype=dtype)), normal)

    far = [[1e6], [1e6 + 0.03]]
    with jax.enable_x64(False):
        words = "means: rounding to float32 moves that of component 1 by 0.03 standard deviations"
        with pytest.warns(UserWarning, match=words) as heard:
            found = interop.from_torch(model(far, torch.float64))
        assert len(heard) == 1
        assert {leaf.dtype for leaf in found} == {jnp.dtype("float32")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert interop.from_torch(model(far, torch.float64)).means[1, 0] == far[1][0]
        with jax.enable_x64(False):
            interop.from_torch(model(far, torch.float32))
            interop.from_torch(model([[0.0], [0.03]], torch.float64))
