"""Fitting by gradient: it arrives, stops, leaves alone what it must, and survives what goes
wrong.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import cast, random_mixture

import gmmjax

fit = functools.partial(gmmjax.fit, num_steps=100, patience=30)
# One object of each, for compilations are found again by identity.
ADAMW, LBFGS = optax.adamw(0.05, weight_decay=0.1), optax.lbfgs()
# Where running takes longer than compiling.
optimised = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
forward = lambda key, q, p: gmmjax.kl_divergence(key, p, q, num_samples=512)
differentiable = lambda key, q, p: gmmjax.kl_divergence(
    key, p, q, num_samples=512, stick_the_landing=False
)
distance = lambda key, q, p: jnp.sum((q.means - p.means) ** 2)  # cheap and exact


@pytest.fixture(scope="module")
def pair():
    return random_mixture(0, 3, 2), random_mixture(5, 3, 2)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_most_random_starts_reach_the_target(key):
    # Distinct components: where two all but coincide there are local minima at 2e-3, which are no
    # fault of a fit.
    covariances = [[[0.5, 0.2], [0.2, 0.6]], [[0.8, -0.3], [-0.3, 0.4]], [[1.0, 0.0], [0.0, 0.3]]]
    p = gmmjax.from_covariances([0.5, 0.3, 0.2], [[-2.0, 0.0], [2.0, 0.5], [0.0, 2.5]], covariances)
    loss = lambda key, q: gmmjax.kl_divergence(key, p, q, num_samples=1024)
    starts = jax.vmap(lambda key: gmmjax.random_start(key, p, 3))(jax.random.split(key, 20))
    run = jax.vmap(lambda q: gmmjax.fit(key, loss, q, num_steps=300))
    result = optimised(run)(starts)
    kl, stderr = jax.vmap(gmmjax.kl_divergence, in_axes=(None, None, 0))(key, p, result.gmm)
    assert np.sum(kl + 2 * stderr < 1e-3) >= 19
    assert np.all(result.start.value > 0.05)


def test_weights_wait_until_components_have_moved(key, pair):
    p, q = pair
    few = functools.partial(fit, key, forward, q, args=(p,), num_steps=5)
    held = few()
    assert_same(gmmjax.weights(held.gmm), gmmjax.weights(q))
    assert np.all(held.gmm.means != q.means)
    freed = few(hold_weights=None)
    assert not np.array_equal(gmmjax.weights(freed.gmm), gmmjax.weights(q))
    alone = few(trainable=gmmjax.GMM(True, False, False))  # nothing to wait for
    assert not np.array_equal(gmmjax.weights(alone.gmm), gmmjax.weights(q))


def test_stays_at_the_optimum(key, pair):
    p, q = pair
    result = fit(key, forward, p, args=(p,))
    kl, stderr = gmmjax.kl_divergence(key, p, result.gmm)
    assert kl <= 4 * result.loss.stderr + 4 * stderr
    assert result.loss.value <= result.start.value
    moved = fit(key, forward, q, args=(p,))
    assert moved.loss.value < moved.start.value - 10 * moved.loss.stderr


@pytest.mark.parametrize("leaf", ["logits", "means", "scale"])
def test_the_rest_keeps_its_bits(leaf, key, pair):
    p, q = pair
    q = q._replace(scale=-q.scale)  # the same mixture; unconstrain alone would flip the signs
    trainable = gmmjax.GMM(False, False, False)._replace(**{leaf: True})
    result = fit(key, forward, q, args=(p,), trainable=trainable, optimizer=ADAMW)
    for name in ("logits", "means", "scale"):
        same = np.array_equal(getattr(result.gmm, name), getattr(q, name))
        assert same == (name != leaf)


def test_one_component_alone_may_move(key, pair):
    p, q = pair
    only = jnp.array([False, True, False])
    trainable = gmmjax.GMM(False, only[:, None], False)
    result = fit(key, distance, q, args=(p,), trainable=trainable)
    assert_same(result.gmm.means[::2], q.means[::2])
    assert not np.array_equal(result.gmm.means[1], q.means[1])


@pytest.mark.parametrize(
    ("optimizer", "loss", "common"),
    [(ADAMW, forward, False), (LBFGS, differentiable, True)],
    ids=["adamw", "lbfgs"],
)
def test_absent_components_stay_absent(optimizer, loss, common, key, pair):
    p, q = pair
    q = q._replace(logits=q.logits.at[1].set(-jnp.inf))
    result = fit(key, loss, q, args=(p,), optimizer=optimizer, common_random_numbers=common)
    assert result.num_skipped == 0
    assert result.gmm.logits[1] == -jnp.inf
    # What they held was dropped at the door, where they became copies of the heaviest one.
    heaviest = int(jnp.argmax(q.logits))
    assert_same((result.gmm.means[1], result.gmm.scale[1]), (q.means[heaviest], q.scale[heaviest]))
    assert all(np.isfinite(leaf).all() for leaf in (result.gmm.means, result.gmm.scale))
    assert result.loss.value < 0.5 * result.start.value


def test_line_search_descends_on_common_random_numbers(key, pair):
    p, q = pair
    result = fit(key, differentiable, q, args=(p,), optimizer=LBFGS, common_random_numbers=True)
    losses = result.losses[np.isfinite(result.losses)]
    assert np.all(np.diff(losses) <= 1e-12)
    assert losses[-1] < 0.05 * losses[0]
    fresh = fit(key, forward, q, args=(p,))
    assert np.any(np.diff(fresh.losses) > 0)


def test_schedules_are_followed(key, pair):
    p, q = pair
    off = fit(
        key,
        distance,
        q,
        args=(p,),
        optimizer=optax.sgd(optax.piecewise_constant_schedule(0.1, {3: 0.0})),
    )
    np.testing.assert_array_equal(off.losses[4:8], off.losses[4])
    assert off.losses[0] > off.losses[2] > off.losses[3] == off.losses[4] > 0


def test_stops_when_there_is_no_more_progress(key, pair):
    p, q = pair
    for loss in (forward, distance):
        stopped = fit(key, loss, p, args=(p,), num_steps=500)
        assert stopped.converged
        assert stopped.num_steps < 500
        assert np.isnan(stopped.losses[stopped.num_steps :]).all()
    assert fit(key, distance, p, args=(p,), patience=None).num_steps == 100
    descending = fit(key, distance, q, args=(p,))
    assert not descending.converged
    assert descending.num_steps == 100


def test_never_ends_worse_than_it_began(key, pair):
    p, q = pair
    result = fit(key, distance, q, args=(p,), optimizer=optax.sgd(1.5), patience=None)
    assert result.losses[-1] > 1e3 * result.losses[0]
    assert result.loss.value <= result.start.value
    assert_same(result.gmm, q)


def test_the_average_beats_the_last_iterate(key):
    p = gmmjax.GMM(jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones(3))
    noisy = lambda key, q: jnp.sum((q.means - jax.random.normal(key, q.means.shape)) ** 2)
    result = fit(
        key,
        noisy,
        p._replace(means=p.means + 1),
        optimizer=optax.sgd(0.2),
        num_steps=400,
        patience=None,
    )
    # stationary spread of an iterate x ← x − 0.4 (x − noise), per coordinate
    last = np.sqrt(0.2 / 1.8)
    assert np.sqrt(np.mean(result.gmm.means**2)) < 0.6 * last


def test_a_loss_that_is_flat_at_the_start_is_told(key):
    """JS of mixtures a hundred deviations apart; not where a fit gets anywhere, nor at p itself."""
    p = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones((1, 1)))
    js = lambda key, q, p: gmmjax.js_divergence(key, p, q, num_samples=512)
    away = lambda distance: p._replace(means=p.means + distance)
    with pytest.warns(UserWarning, match="converged where it began, at a loss of 0.6931"):
        assert fit(key, js, away(100.0), args=(p,)).converged
    assert fit(key, js, away(2.0), args=(p,)).loss.value < 1e-3
    assert fit(key, js, p, args=(p,)).loss.value < 1e-3


def test_steps_that_are_not_finite_are_skipped_and_counted(key, pair):
    p, q = pair
    unlucky = lambda key, q, p: (
        distance(key, q, p) + jnp.where(jax.random.uniform(key) < 0.2, jnp.nan, 0.0)
    )
    with pytest.warns(UserWarning, match="of 100 steps were skipped"):
        result = fit(key, unlucky, q, args=(p,), patience=None)
    assert 5 < result.num_skipped < 40
    assert result.num_skipped == np.isnan(result.losses).sum()
    assert result.num_steps + result.num_skipped == 100
    with pytest.warns(UserWarning, match="100 of 100 steps were skipped"):
        hopeless = fit(key, lambda key, q: jnp.nan * jnp.sum(q.means), q)
    assert hopeless.num_skipped == 100
    assert np.isnan(hopeless.loss.value)
    assert not hopeless.converged
    assert_same(hopeless.gmm, q)


@pytest.mark.parametrize("error", [jnp.nan, 1e25, jnp.inf])
def test_nonsense_cannot_win(error, key):
    def senseless(key, q):
        distance = jnp.sum((q.means - 3.0) ** 2)
        lost = distance > 20.0
        return gmmjax.Estimate(
            jnp.where(lost, -1e19 * distance, distance), jnp.where(lost, error, 0.1)
        )

    q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 2)), jnp.ones(1))
    with pytest.warns(UserWarning, match="were skipped"):
        result = fit(key, senseless, q, optimizer=optax.sgd(1.5), patience=None)
    assert 0 <= result.loss.value <= result.start.value == 18
    assert result.loss.stderr < 1
    assert result.num_skipped > 10


@pytest.mark.filterwarnings("ignore:fit:UserWarning")
def test_a_descent_that_explodes_ends_no_worse_than_it_began(key):
    # Factors that single precision no longer resolves give losses of −1e11 with small errors.
    p = cast(random_mixture(0, 10, 20, spread=3.0), jnp.float32)
    q = cast(random_mixture(1, 10, 20), jnp.float32)
    loss = lambda key, q, p: gmmjax.kl_to_density(
        key, q, lambda x: gmmjax.log_prob(p, x), num_samples=64
    )
    found = functools.partial(fit, key, loss, q, args=(p,), patience=None)
    result = found(optimizer=optax.adam(0.5))
    assert -4 * result.loss.stderr < result.loss.value <= result.start.value
    assert result.num_skipped > 0
    assert all(np.isfinite(leaf).all() for leaf in result.gmm)
    natural = found()
    assert natural.num_skipped == 0
    assert natural.loss.value < 0.05 * natural.start.value


def test_a_step_over_the_edge_is_halved(key):
    q = gmmjax.GMM(jnp.zeros(1), jnp.ones((1, 1)), jnp.ones(1))
    edge = lambda key, q: jnp.sum(q.means) - jnp.sum(jnp.log(q.means))  # NaN below 0, least at 1
    result = fit(key, edge, q._replace(means=3 * q.means), optimizer=optax.sgd(6.0))
    assert result.num_skipped > 0
    assert 1 <= result.loss.value < result.start.value


def test_256_fits_at_once(key):
    ps = jax.vmap(lambda key: random_batch(key))(jax.random.split(key, 256))
    qs = jax.vmap(lambda key: random_batch(key))(jax.random.split(jax.random.key(1), 256))
    loss = lambda key, q, p: gmmjax.kl_divergence(key, p, q, num_samples=32)
    one = lambda key, p, q: gmmjax.fit(
        key, loss, q, args=(p,), num_steps=50, optimizer=optax.adam(0.05)
    )
    keys = jax.random.split(jax.random.key(2), 256)
    result = jax.jit(jax.vmap(one))(keys, ps, qs)
    assert result.losses.shape == (256, 50)
    kl = jax.vmap(lambda *pair: gmmjax.kl_divergence(key, *pair, num_samples=1024))
    before, after = kl(ps, qs).value, kl(ps, result.gmm).value
    assert np.all(after <= before + 0.1)
    assert np.median(after) < 0.3 * np.median(before)
    alone = one(*(jax.tree.map(lambda leaf: leaf[7], tree) for tree in (keys, ps, qs)))
    np.testing.assert_allclose(alone.losses, result.losses[7], rtol=1e-6)


def random_batch(key):
    means, logits = jax.random.normal(key, (2, 2))
    return gmmjax.GMM(logits, 2 * means[:, None], jnp.ones(2))


def test_to_points_by_maximum_likelihood(key, pair):
    p, q = pair
    x = gmmjax.sample(key, p, 4000)
    result = fit(
        key,
        lambda key, q: -jnp.mean(gmmjax.log_prob(q, x)),
        q,
        optimizer=optax.adam(0.05),
        num_steps=400,
    )
    assert result.loss.stderr == 0
    assert (
        gmmjax.kl_divergence(key, p, result.gmm).value
        < 0.01
        < gmmjax.kl_divergence(key, p, q).value
    )


def test_to_a_banana(key):
    def banana(x):
        bent = x[:, 1] - 0.5 * (x[:, 0] ** 2 - 1)
        return -0.5 * x[:, 0] ** 2 - 0.5 * (bent / 0.5) ** 2 - jnp.log(jnp.pi)

    loss = lambda key, q: gmmjax.kl_to_density(key, q, banana, num_samples=1024)
    means = 1.5 * jax.random.normal(key, (10, 2))
    init = gmmjax.GMM(jnp.zeros(10), means, jnp.broadcast_to(jnp.eye(2), (10, 2, 2)))
    result = gmmjax.fit(key, loss, init, optimizer=optax.adam(0.05), num_steps=400)
    assert result.start.value > 1
    assert -4 * result.loss.stderr < result.loss.value < 0.05
    gaussian = jax.tree.map(lambda leaf: leaf[:1], result.gmm)
    # and one component is not enough
    assert gmmjax.kl_to_density(key, gaussian, banana).value > 0.1


@pytest.mark.parametrize("landing", [True, False])
def test_kl_to_density_of_a_mixture_is_kl(landing, key, pair):
    p, q = pair
    options = {"num_samples": 512, "stick_the_landing": landing}

    def ours(q):
        return gmmjax.kl_to_density(key, q, lambda x: gmmjax.log_prob(p, x), **options).value

    def kl(q):
        return gmmjax.kl_divergence(key, q, p, control_variate=False, **options).value

    both = jax.jit(lambda q: [jax.value_and_grad(f)(q) for f in (ours, kl)])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), *both(q))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_steps": 0}, ValueError, "num_steps: expected at least 1"),
        ({"patience": 2.5}, TypeError, "patience"),
        ({"interval": 0}, ValueError, "interval"),
        ({"hold_weights": 0.5}, TypeError, "hold_weights"),
        ({"trainable": (True, False, False)}, TypeError, "trainable: expected a gmmjax.GMM"),
        (
            {"loss": lambda key, q, p: q.logits},
            ValueError,
            "loss: expected an Estimate or a scalar",
        ),
        ({"init": "q"}, TypeError, "init"),
    ],
)
def test_bad_arguments(changes, error, words, key, pair):
    p, q = pair
    arguments = {"loss": distance, "init": q, "args": (p,)} | changes
    with pytest.raises(error, match=words):
        fit(key, **arguments)
