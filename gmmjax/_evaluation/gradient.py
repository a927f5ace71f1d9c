"""Gradients of estimates, with standard errors."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import settings
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import sobol
from gmmjax._validate import check_function, check_key


def gradient(
    divergence: Callable,
    key,
    *mixtures: GMM,
    argnums: int | Sequence[int] = 0,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    **keywords,
) -> Estimate:
    r"""Gradient of an estimate, :math:`\partial D / \partial \theta`, with the error of each entry;
    an estimate.

    In nats per unit of each parameter, unbiased. The gradient of each independent replicate is
    taken on its own: their average is the gradient that `jax.grad` would give for as many points,
    and their spread is its error.

    Args:
      divergence: any estimate of this package, called as `divergence(key, *mixtures, num_samples=…,
        **keywords)`.
      key: a JAX key.
      *mixtures: its mixtures.
      argnums: the position among `mixtures` of the one to differentiate, or several positions.
      num_samples: number of points in all, a Python int.
      num_replicates: R, the independent gradients that are averaged.
      **keywords: passed on to the divergence.

    Returns:
      An `Estimate` whose two leaves are each of the shape of the mixture, or a tuple of them for
      several positions.

    Raises:
      TypeError: `key` is not a key, or a count is not an int.
      ValueError: a count is below 1, or what the divergence refuses.

    Reference:
      L'Ecuyer (2018), "Randomized quasi-Monte Carlo: an introduction for practitioners", section 2.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> slope, stderr = gmmjax.gradient(gmmjax.kl_divergence, jax.random.key(0), p, q, argnums=1)
      >>> print(slope.scale.round(2), stderr.scale.shape)
      [0.25] (1,)
    """
    check_key(key)
    check_function("divergence", divergence)
    sampling = settings.check_sampling(num_samples, num_replicates, sobol)
    chosen = argnums if isinstance(argnums, int) else tuple(argnums)
    for position in [chosen] if isinstance(chosen, int) else chosen:
        if not -len(mixtures) <= position < len(mixtures):
            raise ValueError(
                f"argnums: there are {len(mixtures)} mixtures, and none at position {position}"
            )
    return _gradient(key, mixtures, (divergence, chosen, sampling, tuple(sorted(keywords.items()))))


@jax.jit(static_argnums=2)
def _gradient(key, mixtures, static):
    divergence, argnums, sampling, keywords = static
    count = min(sampling.num_replicates, sampling.num_samples)
    share = -(-sampling.num_samples // count)

    def replicate(key):
        value = lambda *mixtures: (
            divergence(key, *mixtures, num_samples=share, num_replicates=1, **dict(keywords)).value
        )
        return jax.grad(value, argnums)(*mixtures)

    gradients = jax.lax.map(replicate, jax.random.split(key, count))
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
    spread = lambda leaf: (
        jnp.std(leaf, axis=0, ddof=1) / count**0.5
        if count > 1
        else jnp.full(leaf.shape[1:], jnp.inf)
    )
    return Estimate(mean, jax.tree.map(spread, gradients))
