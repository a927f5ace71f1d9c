"""What a fit refuses before it begins, and how its result is told; nothing here runs a long fit."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import random_mixture

import gmmjax

P, Q = random_mixture(0, 2, 2), random_mixture(1, 2, 2)


def distance(key, q, p):
    return jnp.sum((q.means - p.means) ** 2)


def fit(loss=distance, num_steps=2, **options):
    return gmmjax.fit(jax.random.key(0), loss, Q, num_steps=num_steps, **{"args": (P,)} | options)


@pytest.mark.parametrize(
    "wrap",
    [lambda f: f, jax.jit, functools.partial, lambda f: jax.jit(functools.partial(f))],
    ids=["bare", "jit", "partial", "both"],
)
def test_a_bare_divergence_is_told_both_ways(wrap):
    """It would be called as (key, q, p), and so minimise the other direction."""
    words = r"`lambda key, q, p: gmmjax.kl_divergence\(key, p, q\)`.*\(key, q, p\)`"
    with pytest.raises(TypeError, match=words):
        fit(wrap(gmmjax.kl_divergence))


def test_a_deterministic_divergence_is_told_where_the_key_goes():
    with pytest.raises(TypeError, match=r"`lambda key, q, p: gmmjax.ise\(p, q\)`"):
        fit(gmmjax.ise)


def test_a_symmetric_estimate_is_a_loss_unless_a_weight_is_bound():
    js = functools.partial(gmmjax.js_divergence, num_samples=64)
    assert fit(js).num_steps == 2
    with pytest.raises(TypeError, match="or the other way round"):
        fit(functools.partial(js, weight=0.3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"args": P}, r"args: expected a tuple of arguments, got a GMM; write args=\(p,\)"),
        ({"args": 3.0}, "args: expected a tuple of arguments .*, got float"),
        (
            {"trainable": gmmjax.GMM(True, jnp.ones(3, bool), True)},
            r"trainable.means: expected booleans that broadcast to \(2, 2\).*got shape \(3,\)",
        ),
        (
            {"trainable": gmmjax.GMM(jnp.ones((2, 2), bool), True, True)},
            r"trainable.logits: .* to \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(**options)


def test_a_forgotten_key_is_asked_for():
    with pytest.raises(TypeError, match="key: .*; the key comes first, got function"):
        gmmjax.fit(distance, Q, args=(P,))


def test_a_result_is_told_in_one_line():
    result = fit(num_steps=1)
    first, _, rest = str(result).partition(" → ")
    assert float(first) == pytest.approx(float(result.start.value), rel=1e-2)
    assert rest == f"{result.loss}, 1 steps, not converged"
    assert repr(result) == f"FitResult({result})"


def test_a_result_is_a_tuple_where_it_is_no_single_one():
    shown = []

    @jax.jit
    def run(means):
        result = fit(args=(P._replace(means=means),))
        shown.append(str(result))
        return result

    batch = jax.vmap(run)(jnp.stack([P.means, Q.means]))
    assert all(text.startswith("FitResult(gmm=GMM(") for text in (*shown, str(batch), repr(batch)))
