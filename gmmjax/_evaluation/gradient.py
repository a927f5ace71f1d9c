"""Gradients of estimates, with standard errors."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gmmjax._compile import WIDE, jit_with
from gmmjax._evaluation.call import split
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import check_count, check_function, check_key, on_any_mesh


@on_any_mesh
def gradient(
    divergence: Callable,
    key,
    *mixtures: GMM,
    argnums: int | Sequence[int] = 0,
    num_samples: int = 16_384,
    num_replicates: int = 32,
    **keywords,
) -> Estimate:
    r"""Gradient of an estimate, :math:`\partial D / \partial \theta`, with errors; an estimate.

    In nats per unit of each parameter, unbiased. The gradient of each independent replicate is
    taken on its own: their average estimates what `jax.grad` does, with other points, and their
    spread is its error.

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
    check_key(key, "after the divergence")
    check_function("divergence", divergence)
    num_samples = check_count("num_samples", num_samples)
    num_replicates = check_count("num_replicates", num_replicates)
    chosen = argnums if isinstance(argnums, int) else tuple(argnums)
    _check_positions(chosen, len(mixtures))
    count = min(num_replicates, num_samples)
    options = {"num_samples": math.ceil(num_samples / count), "num_replicates": 1, **keywords}
    call, arrays = split(divergence, key, options)
    return _gradient(key, mixtures, arrays, call, chosen, count)


def _check_positions(chosen, num_mixtures):
    for position in [chosen] if isinstance(chosen, int) else chosen:
        if not -num_mixtures <= position < num_mixtures:
            raise ValueError(
                f"argnums: there are {num_mixtures} mixtures, and none at position {position}"
            )


@jit_with(WIDE, static_argnums=(3, 4, 5))
def _gradient(key, mixtures, arrays, call, argnums, count):
    def replicate(key):
        return jax.grad(lambda *mixtures: call(key, mixtures, arrays).value, argnums)(*mixtures)

    gradients = jax.lax.map(replicate, jax.random.split(key, count))
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
    return Estimate(mean, jax.tree.map(_stderr, gradients))


def _stderr(replicates):
    """The standard error of the mean of independent replicates, infinite for one alone."""
    count = len(replicates)
    if count == 1:
        return jnp.full(replicates.shape[1:], jnp.inf)
    return jnp.std(replicates, axis=0, ddof=1) / count**0.5
