"""Eight schools (Rubin, 1981), from a start where squares of log-densities overflow float32."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import cast

import gmmjax

EFFECTS = np.array([28, 8, -3, 7, -1, 1, 18, 12.0])
ERRORS = np.array([15, 10, 16, 11, 9, 11, 10, 18.0])


def log_normal(x, mean, deviation):
    return -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)


def log_prior(mean, log_spread):
    """Of N(0, 5²) and a half-Cauchy distribution of scale 5, in its logarithm."""
    half_cauchy = np.log(2 / (5 * np.pi)) - np.log1p(np.exp(2 * log_spread) / 25) + log_spread
    return log_normal(mean, 0.0, 5.0) + half_cauchy


def log_evidence():
    mean = np.linspace(-40, 40, 401)[:, None]
    log_spread = np.linspace(-14, 9, 1001)
    total = log_prior(mean, log_spread)
    for effect, error in zip(EFFECTS, ERRORS, strict=True):
        total += log_normal(effect, mean, np.hypot(error, np.exp(log_spread)))
    return np.log(np.sum(np.exp(total)) * (mean[1, 0] - mean[0, 0]) * np.diff(log_spread)[0])


@jax.vmap
def log_density(x):
    mean, log_spread, school = x[0], x[1], x[2:]
    effects, errors = jnp.asarray(EFFECTS, x.dtype), jnp.asarray(ERRORS, x.dtype)
    squares = school**2 + ((effects - mean - jnp.exp(log_spread) * school) / errors) ** 2
    half_cauchy = log_spread - jnp.log1p(jnp.exp(2 * log_spread) / 25)
    constant = np.sum(np.log(ERRORS)) + 8.5 * np.log(2 * np.pi) + np.log(5) - np.log(0.4 / np.pi)
    return half_cauchy - 0.5 * ((mean / 5) ** 2 + jnp.sum(squares)) - constant


def test_finds_the_evidence_from_afar(key):
    broad = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 10)), 5 * jnp.eye(10)[None])
    init = gmmjax.moment_start(key, cast(broad, jnp.float32), 10)
    result = gmmjax.fit_to_density(key, log_density, init)
    assert result.gmm.means.dtype == jnp.float32
    assert result.start.value > 1e17  # its standard deviation is larger still
    assert result.num_skipped == 0
    assert -0.003 < result.loss.value + log_evidence() < 0.03
