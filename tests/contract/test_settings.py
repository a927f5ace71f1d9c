"""Settings that users have: strict promotion of types."""

import jax
import jax.numpy as jnp
import optax
import pytest
from cases import TABLE, cast, random_mixture

import gmmjax

KL = gmmjax.kl_divergence


def quadratic(x):
    return -0.5 * jnp.sum(x**2, axis=1)


def loss(key, q, p):
    return KL(key, p, q, num_samples=64)


OTHERS = {
    "affine": lambda key, p, q: gmmjax.affine(p, [1, 2], 1),
    "mix": lambda key, p, q: gmmjax.mix([p, q], [1, 2]),
    "estimate_to": lambda key, p, q: gmmjax.estimate_to(KL, key, p, q, rtol=0.1),
    "gradient": lambda key, p, q: gmmjax.gradient(KL, key, p, q, num_samples=64),
    "fit": lambda key, p, q: gmmjax.fit(key, loss, q, args=(p,), num_steps=3),
    "adam": lambda key, p, q: gmmjax.fit(
        key, loss, q, args=(p,), num_steps=3, optimizer=optax.adam(0.01)
    ),
    "fit_to_density": lambda key, p, q: gmmjax.fit_to_density(key, quadratic, p, num_steps=3),
    "importance_diagnostics": lambda key, p, q: gmmjax.importance_diagnostics(key, p, quadratic),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_strict_promotion(dtype, key):
    """Tracing is where types are mixed."""
    p, q = cast((random_mixture(0, 3, 2), random_mixture(1, 3, 2)), dtype)
    calls = {f.name: f.call for f in TABLE} | OTHERS
    with jax.numpy_dtype_promotion("strict"):
        for call in calls.values():
            jax.eval_shape(call, key, p, q)
        with pytest.raises(Exception, match="implicit dtype promotion"):
            jnp.ones(2, jnp.int32) + jnp.ones(2)
