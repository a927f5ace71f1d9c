"""KL between mixtures where other libraries look for it: in their own registries."""

import functools

from gmmjax._validate import check_count
from gmmjax.interop._batches import Shape, as_batch, kl_of_batches
from gmmjax.interop._distributions import is_full, parts, scale_of
from gmmjax.interop._partner import as_array, load

# Of each library that has been registered; a second call changes it.
_NUM_SAMPLES: dict[str, int] = {}


def register(name: str, *, num_samples: int = 16_384) -> None:
    r"""Teach a library's own `kl_divergence` the divergence of two mixtures of Gaussians.

    After `gmmjax.interop.register("numpyro")`, `numpyro.distributions.kl_divergence(p, q)` knows
    two `MixtureSameFamily` of normal components, :math:`\mathbb E_p[\log p - \log q]` in nats, and
    likewise `tfp.distributions.kl_divergence` and `torch.distributions.kl_divergence`. Nothing else
    is registered, and nothing on import. Batches of mixtures give a batch of values.

    It is `gmmjax.kl_divergence` with `jax.random.key(0)`: an estimate, but the same number at each
    call. Register again with another `num_samples` for less noise. The gradient arrives in the
    library's own parameters and is that of the returned number (`stick_the_landing=False`); there
    is no second derivative in torch. Tensors of torch in double precision keep it; arrays
    have JAX's (float32 unless `jax_enable_x64`).

    Args:
      name: "numpyro", "tfp" (TensorFlow Probability on JAX) or "torch".
      num_samples: number of points, a Python int.

    Returns:
      Nothing.

    Raises:
      ImportError: the library is not installed.
      TypeError: `num_samples` is not an int.
      ValueError: `name` is none of these, or `num_samples` is below 1. Components that are not
        normal raise `NotImplementedError`, as these libraries do, when a divergence is asked for.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> from numpyro.distributions import kl_divergence
      >>> gmmjax.interop.register("numpyro")
      >>> g = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> p, q = (gmmjax.interop.to_numpyro(g._replace(scale=s * g.scale)) for s in (1.0, 2.0))
      >>> print(kl_divergence(p, q).round(2))
      0.17
    """
    if name not in _REGISTRARS:
        raise ValueError(f"name: expected one of {', '.join(_REGISTRARS)}, got {name!r}")
    count = check_count("num_samples", num_samples)
    if name not in _NUM_SAMPLES:
        _REGISTRARS[name]()
    _NUM_SAMPLES[name] = count


def _register_numpyro():
    dist = load("numpyro.distributions", "numpyro", "register")
    family = dist.MixtureSameFamily
    dist.kl_divergence.add((family, family), functools.partial(_kl_on_jax, "numpyro"))


def _register_tfp():
    tfd = load("tensorflow_probability.substrates.jax", "tfp-nightly", "register").distributions
    # The public class makes objects of the private one where components are no composite tensors.
    family = next(c for c in tfd.MixtureSameFamily.__mro__ if c.__name__ == "_MixtureSameFamily")
    tfd.RegisterKL(family, family)(functools.partial(_kl_on_jax, "tfp"))


def _register_torch():
    torch = load("torch", "torch", "register")
    family = torch.distributions.MixtureSameFamily
    torch.distributions.register_kl(family, family)(_kl_of_torch)


_REGISTRARS = {"numpyro": _register_numpyro, "tfp": _register_tfp, "torch": _register_torch}
_PACKAGES = {"numpyro": "numpyro", "tfp": "tensorflow_probability"}


def _kl_on_jax(library, p, q, **_):
    """Between two distributions of a library on JAX, which differentiates through it."""
    batches = []
    for distribution in (p, q):
        mixing, components = _parts(distribution, _PACKAGES[library])
        logits = mixing.logits if mixing.logits is not None else mixing.logits_parameter()
        scale = _scale_of(components)
        leaves = as_array(logits), as_array(components.loc), scale
        batches.append(as_batch(_shape(distribution, components), *leaves))
    return kl_of_batches(*batches, _NUM_SAMPLES[library])


def _kl_of_torch(p, q):
    """Between two distributions of PyTorch, whose own engine differentiates what leads to them."""
    from gmmjax.interop._torch_function import kl_function

    shapes, tensors = [], []
    for distribution in (p, q):
        mixing, components = _parts(distribution, "torch")
        shapes.append(_shape(distribution, components))
        _scale_of(components)
        full = shapes[-1].full
        tensors += [
            mixing.logits,
            components.loc,
            components.scale_tril if full else components.scale,
        ]
    return kl_function().apply(tuple(shapes), _NUM_SAMPLES["torch"], *tensors)


def _parts(distribution, package):
    if len(distribution.event_shape) > 1:
        raise NotImplementedError(f"events of shape {tuple(distribution.event_shape)}")
    return parts(distribution, package)


def _shape(distribution, components):
    return Shape(
        tuple(distribution.batch_shape), tuple(distribution.event_shape), is_full(components)
    )


def _scale_of(components):
    """Scales of components, which are refused as these libraries refuse what they do not know."""
    try:
        return scale_of(components)
    except TypeError as error:
        raise NotImplementedError(str(error)) from None
