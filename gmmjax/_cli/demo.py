"""`python -m gmmjax demo`: what the library is for, in half a minute."""

import jax
import jax.numpy as jnp

from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import kl_divergence
from gmmjax._fitting.fit import fit
from gmmjax._mixture.build import from_covariances
from gmmjax._mixture.density import log_prob
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.sample import sample


def run(num_samples: int = 16_384, num_draws: int = 100_000, num_steps: int = 200) -> None:
    r"""Print divergences of a built-in pair beside the plain recipe, then fit one to the other.

    Args:
      num_samples: points of each estimate.
      num_draws: draws of the plain recipe, the mean of a log-ratio over a sample.
      num_steps: steps of the fit.

    Example:
      >>> from gmmjax._cli import demo
      >>> demo.run(num_samples=64, num_draws=64, num_steps=1)  # doctest: +ELLIPSIS
      How far apart are two Gaussian mixtures in the plane, ...
    """
    p, q = _pair()
    print(
        "How far apart are two Gaussian mixtures in the plane, "
        "p with K = 4 and q with K = 3 components?\n"
        "Divergences in nats, value +/- standard error; "
        "the ratio is of variances at an equal number of draws.\n"
    )
    keys = jax.random.split(jax.random.key(0), 9)
    _print_estimates(keys[:6], p, q, num_samples, num_draws)
    _print_fit(keys[6:], p, q, num_steps)


def _print_estimates(keys, p, q, num_samples, num_draws):
    ours, plain = f"gmmjax, {num_samples:,} draws", f"plain recipe, {num_draws:,} draws"
    print(f"{'':<10}{ours:<26}{plain:<32}{'ratio':>8}")
    cases = [
        ("KL(p||q)", kl_divergence, _plain_kl, p, q),
        ("KL(q||p)", kl_divergence, _plain_kl, q, p),
        ("JS(p, q)", js_divergence, _plain_js, p, q),
    ]
    for i, (name, divergence, recipe, a, b) in enumerate(cases):
        ours = divergence(keys[2 * i], a, b, num_samples=num_samples)
        plain = recipe(keys[2 * i + 1], a, b, num_draws)
        ratio = (plain.stderr / ours.stderr) ** 2 * num_draws / num_samples
        # two digits: a standard error of 32 replicates has no more
        times = f"{float(f'{ratio:.2g}'):,.0f}x"
        print(f"{name:<10}{_show(ours):<26}{_show(plain):<32}{times:>8}")
    print(
        "\nThe plain recipe is the mean of log p(x) - log q(x) over x = gmmjax.sample(key, p, n)."
    )


def _print_fit(keys, p, q, num_steps):
    fitted = fit(keys[0], _loss, q, args=(p,), num_steps=num_steps, patience=None).gmm
    print(
        "\nThe estimate has a gradient, so q can be fitted to p: "
        f"{num_steps} natural gradient steps on KL(p||q).\n"
    )
    print(f"{'before':<10}{_show(kl_divergence(keys[1], p, q))}")
    print(f"{'after':<10}{_show(kl_divergence(keys[2], p, fitted))}")


def _pair():
    p = from_covariances(
        [0.35, 0.3, 0.2, 0.15],
        [[-2.0, 0.0], [2.0, 0.5], [0.0, 2.5], [0.5, -2.5]],
        [
            [[0.6, 0.2], [0.2, 0.5]],
            [[0.8, -0.3], [-0.3, 0.4]],
            [[1.0, 0.0], [0.0, 0.3]],
            [[0.3, 0.1], [0.1, 0.9]],
        ],
    )
    q = from_covariances(
        [0.4, 0.4, 0.2],
        [[-1.0, 1.0], [1.5, 1.0], [0.0, -1.5]],
        [[[1.5, 0.3], [0.3, 1.0]], [[1.2, -0.2], [-0.2, 1.5]], [[1.0, 0.0], [0.0, 1.2]]],
    )
    return p, q


def _plain_kl(key, p, q, num_draws):
    x = sample(key, p, num_draws)
    return _average(log_prob(p, x) - log_prob(q, x))


def _plain_js(key, p, q, num_draws):
    key_p, key_q = jax.random.split(key)
    from_p, from_q = _plain_half(key_p, p, q, num_draws), _plain_half(key_q, q, p, num_draws)
    value = 0.5 * (from_p.value + from_q.value)
    return Estimate(value, 0.5 * jnp.hypot(from_p.stderr, from_q.stderr))


def _plain_half(key, p, q, num_draws):
    """KL(p‖m), with m the average of p and q."""
    x = sample(key, p, num_draws)
    return _average(jnp.log(2.0) - jax.nn.softplus(log_prob(q, x) - log_prob(p, x)))


def _average(values):
    return Estimate(jnp.mean(values), jnp.std(values, ddof=1) / len(values) ** 0.5)


def _loss(key, q, p):
    return kl_divergence(key, p, q, num_samples=4096)


def _show(estimate):
    return f"{estimate.value:.7f} +/- {estimate.stderr:.1e}"
