"""Natural gradients: the closed form is the Fisher information's, and no step goes too far."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import KINDS, random_mixture
from jax.flatten_util import ravel_pytree

import gmmjax

RATE = 1e-6
plain = gmmjax.natural_gradient(RATE, momentum=0.0, adaptive=False)


def component(g, k):
    """One component as a mixture."""
    g = g._replace(scale=jnp.broadcast_to(g.scale, (g.num_components, *g.scale.shape[1:])))
    return gmmjax.GMM(jnp.zeros(1), g.means[k : k + 1], g.scale[k : k + 1])


def complete_kl(a, b):
    """KL between mixtures whose draws name their component."""
    w, v = gmmjax.weights(a), gmmjax.weights(b)
    between = [
        gmmjax.gaussian_kl(component(a, k), component(b, k)) for k in range(a.num_components)
    ]
    return jnp.sum(w * jnp.log(w / v)) + jnp.sum(w * jnp.stack(between))


def step(rule, u, grads):
    return jax.jit(rule.update)(grads, rule.init(u), u)[0]


def random_like(u, size=1.0):
    rng = np.random.default_rng(1)
    grads = jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape)), u)
    lower = jnp.tril(grads.scale) if u.scale.ndim > u.means.ndim else grads.scale
    # Losses do not change when a constant is added to all logits.
    return grads._replace(logits=grads.logits - jnp.mean(grads.logits), scale=lower)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_solution_with_the_fisher_information(kind):
    u = gmmjax.unconstrain(random_mixture(0, 2, 2, kind=kind))
    grads = random_like(u)
    flat, unravel = ravel_pytree(u)

    @jax.jit
    def information(flat):
        start = gmmjax.constrain(unravel(flat))
        return jax.hessian(lambda f: complete_kl(start, gmmjax.constrain(unravel(f))))(flat)

    # The kernel of the information: constants of logits, and what is above diagonals.
    solved = unravel(-RATE * jnp.linalg.pinv(information(flat)) @ ravel_pytree(grads)[0])
    ours = step(plain, u, grads)
    centred = ours.logits - jnp.mean(ours.logits)
    np.testing.assert_allclose(centred, solved.logits - jnp.mean(solved.logits), rtol=1e-6)
    np.testing.assert_allclose(ours.means, solved.means, rtol=1e-6)
    np.testing.assert_allclose(ours.scale, solved.scale, rtol=1e-4, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1.0, 1e9])
def test_no_step_goes_further_than_the_trust_region(kind, size):
    u = gmmjax.unconstrain(random_mixture(0, 3, 2, kind=kind))
    if kind == "full":  # a narrow ridge
        u = u._replace(scale=u.scale.at[0].set(jnp.array([[0.0, 0.0], [1.0, -7.0]])))
    old = gmmjax.constrain(u)
    for sign in (1, -1):
        rule = gmmjax.natural_gradient(10.0, max_kl=0.2)
        grads = random_like(u, sign * size)
        new = gmmjax.constrain(optax.apply_updates(u, step(rule, u, grads)))
        moved = [gmmjax.gaussian_kl(component(new, k), component(old, k)) for k in range(3)]
        w, v = gmmjax.weights(new), gmmjax.weights(old)
        assert 0.02 < max(moved) < 0.2 * (1 + 1e-9)
        assert 1e-3 < jnp.sum(w * jnp.log(w / v)) < 0.2


def test_absent_components_stay_as_they_are():
    g = random_mixture(0, 3, 2)
    u = gmmjax.unconstrain(g._replace(logits=g.logits.at[1].set(-jnp.inf)))
    grads = jax.tree.map(lambda leaf: leaf.at[1].set(0.0), random_like(u))
    updates = step(gmmjax.natural_gradient(), u, grads)
    assert all(np.all(leaf[1] == 0) for leaf in updates)
    assert all(np.isfinite(leaf).all() and np.all(leaf[0] != 0) for leaf in (updates.means,))
    without = jax.tree.map(lambda leaf: leaf[jnp.array([0, 2])], (u, grads))
    few = step(gmmjax.natural_gradient(), *without)
    np.testing.assert_allclose(updates.means[::2], few.means)


def test_steps_do_not_depend_on_the_size_of_the_loss(key):
    p, q = random_mixture(0, 2, 2), random_mixture(5, 2, 2)

    def found(size):
        loss = lambda key, q: size * gmmjax.ise(p, q)
        return gmmjax.fit(key, loss, q, num_steps=25, patience=None)

    one, tiny = found(1.0), found(1e-6)
    np.testing.assert_allclose(one.gmm.means, tiny.gmm.means, rtol=1e-5)
    assert one.loss.value < 0.5 * one.start.value


def test_composes_and_follows_schedules():
    u = gmmjax.unconstrain(random_mixture(0, 2, 2))
    grads = random_like(u)
    chained = optax.chain(optax.scale(2.0), plain)
    twice = jax.tree.map(lambda leaf: 2 * leaf, step(plain, u, grads))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), step(chained, u, grads), twice
    )
    rule = gmmjax.natural_gradient(optax.piecewise_constant_schedule(1.0, {1: 0.0}), momentum=0.0)
    first, state = rule.update(grads, rule.init(u), u)
    second, _ = rule.update(grads, state, u)
    assert np.any(first.means != 0)
    assert np.all(second.means == 0)


@pytest.mark.parametrize("options", [{"max_kl": 0.0}, {"momentum": 1.0}, {"momentum": -0.1}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        gmmjax.natural_gradient(**options)
    u = gmmjax.unconstrain(random_mixture(0, 2, 2))
    with pytest.raises(ValueError, match="parameters"):
        plain.update(u, plain.init(u))
