"""KL of mixtures in the registries of NumPyro, TFP and PyTorch, asked for as their users do."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import cast, random_mixture

import gmmjax
from gmmjax import interop

MODULES = {
    "numpyro": "numpyro.distributions",
    "tfp": "tensorflow_probability.substrates.jax.distributions",
    "torch": "torch.distributions",
}
COUNT = 256
every = pytest.mark.parametrize("name", MODULES)
pytestmark = pytest.mark.filterwarnings("ignore")  # of partners


def partner(name):
    """The distributions of a library, with the divergence registered."""
    try:
        module = pytest.importorskip(MODULES[name])
    except AttributeError as error:
        pytest.skip(f"{name} does not import with this JAX: {error}")
    interop.register(name, num_samples=COUNT)
    return module


@pytest.fixture(autouse=True)
def as_partners_promote():
    with jax.numpy_rank_promotion("allow"):
        yield


def pair(kind, other):
    return random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2, kind=other)


def direct(p, q):
    key = jax.random.key(0)
    return gmmjax.kl_divergence(key, p, q, num_samples=COUNT, stick_the_landing=False).value


@every
@pytest.mark.parametrize("kinds", [("full", "full"), ("diagonal", "full")], ids="-".join)
def test_it_is_the_divergence(name, kinds):
    module = partner(name)
    p, q = pair(*kinds)
    theirs = [getattr(interop, f"to_{name}")(g) for g in (p, q)]
    found = module.kl_divergence(*theirs)
    # from what arrives there, for normalised logits round
    expected = direct(*(getattr(interop, f"from_{name}")(g) for g in theirs))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(found), direct(p, q), rtol=1e-6)
    assert module.kl_divergence(*theirs) == found
    interop.register(name, num_samples=4 * COUNT)
    assert module.kl_divergence(*theirs) != found


def on_a_line(name, logits, loc, scale):
    """A mixture of normals as a user of the library writes it, or a batch."""
    module = partner(name)
    return module.MixtureSameFamily(module.Categorical(logits=logits), module.Normal(loc, scale))


def parameters(seed, *batch):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(*batch, 3)),
        rng.normal(size=(*batch, 3)),
        rng.uniform(1, 2, (*batch, 3)),
    ]


def slopes(name, leaves, others):
    """Value and gradient in the parameters of both sides, by the library's own engine."""
    module = partner(name)
    if name == "torch":
        torch = sys.modules["torch"]
        tensors = [torch.tensor(leaf, requires_grad=True) for leaf in leaves + others]
        sides = on_a_line(name, *tensors[:3]), on_a_line(name, *tensors[3:])
        value = module.kl_divergence(*sides)
        value.sum().backward()
        return value.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]

    def total(tensors):
        value = module.kl_divergence(on_a_line(name, *tensors[:3]), on_a_line(name, *tensors[3:]))
        return jnp.sum(value), value

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(leaves + others)
    return np.asarray(value), [np.asarray(leaf) for leaf in gradient]


@every
def test_gradients_are_those_of_the_values(name):
    leaves, others = parameters(0), parameters(1)
    _, gradient = slopes(name, leaves, others)
    rng = np.random.default_rng(2)
    direction = [rng.normal(size=3) for _ in range(6)]

    def at(h):
        moved = [leaf + h * step for leaf, step in zip(leaves + others, direction, strict=True)]
        return float(slopes(name, moved[:3], moved[3:])[0])

    expected = sum(np.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose((at(1e-5) - at(-1e-5)) / 2e-5, expected, rtol=1e-5)
    assert all(np.abs(leaf).max() > 1e-4 for leaf in gradient)


@every
def test_batches_are_one_by_one_and_broadcast(name):
    leaves, others = parameters(0, 2, 2), parameters(1)
    value, gradient = slopes(name, leaves, others)
    assert value.shape == (2, 2)
    assert gradient[0].shape == (2, 2, 3)
    for i, j in np.ndindex(2, 2):
        alone, slope = slopes(name, [leaf[i, j] for leaf in leaves], others)
        np.testing.assert_allclose(value[i, j], alone, rtol=1e-9)
        np.testing.assert_allclose(gradient[1][i, j], slope[1], rtol=1e-7, atol=1e-10)


def test_torch_keeps_its_double_precision():
    """Where JAX has none: single precision moves these means by up to half a unit."""
    leaves, others = parameters(0), parameters(1)
    for side in (leaves, others):
        side[1] += 1e7
    value, gradient = slopes("torch", leaves, others)
    with jax.enable_x64(False):
        alone, slope = slopes("torch", leaves, others)
        singles = [[leaf.astype(np.float32) for leaf in side] for side in (leaves, others)]
        rounded, _ = slopes("torch", *singles)
    assert abs(rounded / value - 1) > 1e-3
    np.testing.assert_allclose(alone, value, rtol=1e-12)
    for a, b in zip(slope, gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_torch_gets_gradients_of_covariance_matrices_in_its_own_precision():
    dist = partner("torch")
    torch = sys.modules["torch"]
    p, q = cast(pair("full", "full"), jnp.float32)
    covariances = torch.tensor(np.asarray(gmmjax.covariances(p)), requires_grad=True)
    means = torch.tensor(np.asarray(p.means))
    mixing = dist.Categorical(logits=torch.tensor(np.asarray(p.logits)))
    ours = dist.MixtureSameFamily(
        mixing, dist.MultivariateNormal(means, covariance_matrix=covariances)
    )
    value = dist.kl_divergence(ours, interop.to_torch(q))
    value.backward()
    assert value.dtype == torch.float32

    def plain(covariances):
        factors = jnp.linalg.cholesky(covariances)
        return direct(p._replace(scale=factors), q)

    expected = jax.grad(plain)(gmmjax.covariances(p))
    symmetric = lambda a: np.asarray(a) + np.swapaxes(a, 1, 2)
    found = symmetric(covariances.grad.numpy())
    np.testing.assert_allclose(found, symmetric(expected), rtol=1e-3, atol=1e-4)


@every
def test_other_components_are_not_implemented(name):
    module = partner(name)
    make = sys.modules["torch"].tensor if name == "torch" else jnp.asarray
    mixing = module.Categorical(probs=make([0.5, 0.5]))
    other = module.MixtureSameFamily(mixing, module.Gamma(make([2.0, 3.0]), make([1.0, 1.0])))
    with pytest.raises(NotImplementedError, match="MultivariateNormal, got .*Gamma"):
        module.kl_divergence(other, other)


def test_nothing_is_registered_on_import():
    dist = pytest.importorskip("numpyro.distributions")
    code = (
        "import gmmjax, jax.numpy as jnp\n"
        "from numpyro import distributions as dist\n"
        "g = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))\n"
        "p = gmmjax.interop.to_numpyro(g)\n"
        "dist.kl_divergence(p, p)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "NotImplementedError" in result.stderr
    assert hasattr(dist, "kl_divergence")


def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match="name: expected one of numpyro, tfp, torch, got 'jaxns'"):
        interop.register("jaxns")
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        interop.register("numpyro", num_samples=0)
    monkeypatch.setattr("gmmjax.interop._register._NUM_SAMPLES", {})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="register needs torch: pip install torch"):
        interop.register("torch")
