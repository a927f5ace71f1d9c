"""Points of p, the iteration of forward KL on them, and the descent after it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._mixture.gmm import GMM, index
from gmmjax._populations import moments
from gmmjax._reduction import cloud, descent, em, parts

WIDTH = 1e-3  # of components that lie about 1 from 0
each_kind = pytest.mark.parametrize("kind", ["full", "diagonal", "spherical"])


def narrow(dtype):
    """Means of three narrow components, 50 points around each, and which belong to which."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 2)).astype(dtype)
    x = np.concatenate([m + WIDTH * rng.normal(size=(50, 2)) for m in means]).T.astype(dtype)
    return means, x, np.repeat(np.eye(3), 50, axis=1).astype(dtype)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_moments_of_narrow_components_keep_their_digits(dtype, full):
    means, x, member = narrow(dtype)
    found = moments.moments(jnp.asarray(member), jnp.asarray(means), jnp.asarray(x), full)
    gaps = x.astype(float) - means[:, :, None].astype(float)
    mean = np.einsum("kn,kin->ki", member, gaps)
    square = np.einsum("kn,kin,kjn->kij", member, gaps, gaps)
    square = square if full else np.diagonal(square, axis1=1, axis2=2)
    mass, first, second = found
    np.testing.assert_allclose(mass, 50)
    np.testing.assert_allclose(first, mean, rtol=1e-4, atol=1e-5 * WIDTH)
    np.testing.assert_allclose(second, square, rtol=1e-4, atol=1e-4 * WIDTH**2)


def test_moments_about_0_would_lose_them_in_single_precision():
    """The reason why there are two ways to the moments."""
    _, x, member = narrow(np.float32)
    mean = np.einsum("kn,in->ki", member, x) / 50
    square = np.einsum("kn,in,jn->kij", member, x, x)
    about = square - 50 * np.einsum("ki,kj->kij", mean, mean)
    assert np.abs(about[:, 0, 0] / (50 * WIDTH**2) - 1).max() > 0.02


def white(kind="full"):
    p = random_mixture(3, 10, 2, kind=kind)
    return parts.into(parts.frame(p), p)


@pytest.fixture(scope="module")
def blocks():
    return cloud.draw(jax.random.key(0), white(), 2, 256)


def start(kind="full"):
    """Three of the components, which do not fit."""
    return GMM(*(leaf[:3] for leaf in white(kind)))


@pytest.fixture(scope="module")
def runs(blocks):
    """Runs of 1, 4 and 16 iterations from one start, on the points of one cloud."""
    starts = jax.tree.map(lambda leaf: leaf[None], start())
    return [em.run_em(starts, blocks, 1e-6, num_steps) for num_steps in (1, 4, 16)]


def test_iterations_lower_the_loss(runs):
    losses = [float(run.loss[0]) for run in runs]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_an_iteration_gives_the_mixture_the_mean_of_the_points(runs):
    """Which is 0 here, up to the error of the points."""
    for run in runs:
        c = parts.to_numpy(GMM(*(leaf[0] for leaf in run.gmm)))
        np.testing.assert_allclose(parts.pool(c).means[0], 0, atol=0.02)


def test_points_have_the_density_of_p_and_its_moments(blocks):
    p = white()
    for block in blocks:
        np.testing.assert_allclose(block.log_prob, gmmjax.log_prob(p, block.x.T), rtol=1e-9)
        np.testing.assert_allclose(block.x @ block.weight, 0, atol=0.02)
        np.testing.assert_allclose((block.x * block.weight) @ block.x.T, np.eye(2), atol=0.1)


@each_kind
def test_mixtures_side_by_side_are_iterated_as_each_alone(kind):
    blocks = cloud.draw(jax.random.key(0), white(kind), 1, 256)
    one = start(kind)
    other = one._replace(means=one.means[::-1] + 0.1)
    both = em.run_em(GMM(*map(np.stack, zip(one, other, strict=True))), blocks, 1e-6, 5)
    for i, g in enumerate((one, other)):
        alone = em.run_em(GMM(*(leaf[None] for leaf in g)), blocks, 1e-6, 5)
        np.testing.assert_allclose(both.loss[i], alone.loss[0], rtol=1e-9)
        for ours, theirs in zip(both.gmm, alone.gmm, strict=True):
            np.testing.assert_allclose(ours[i], theirs[0], rtol=1e-7, atol=1e-9)


def test_a_dead_component_stays_where_it_was(blocks):
    far = start()
    far = far._replace(means=far.means + np.array([[0.0], [0.0], [1e3]]))
    run = em.run_em(jax.tree.map(lambda leaf: leaf[None], far), blocks, 1e-6, 3)
    assert run.gmm.logits[0, 2] == -np.inf
    np.testing.assert_array_equal(run.gmm.means[0, 2], far.means[2])
    assert np.isfinite(run.loss[0])


@each_kind
def test_the_gradient_of_a_descent_is_that_of_its_loss(kind):
    blocks = cloud.draw(jax.random.key(0), white(kind), 2, 64)
    q = start(kind)
    rng = np.random.default_rng(0)
    x = 0.3 * rng.normal(size=sum(leaf.size for leaf in q))
    if kind == "full":  # what stands above the diagonal is no parameter
        upper = np.triu_indices(2, 1)
        x[-12:].reshape(3, 2, 2)[:, upper[0], upper[1]] = 0.0
    gradient = descent._loss(q, x, blocks)[1]
    step = 1e-6
    for i, direction in enumerate(np.eye(len(x))):
        up, down = (descent._loss(q, x + s * direction, blocks)[0] for s in (step, -step))
        assert abs((up - down) / (2 * step) - gradient[i]) < 1e-6


def test_a_descent_ends_below_the_iteration(blocks, runs):
    q = GMM(*(leaf[0] for leaf in runs[1].gmm))
    result = descent.on_points(q, blocks, 100)
    losses = result.losses[: int(result.num_steps)]
    assert result.converged
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] < runs[1].loss[0] - 1e-4
    assert np.isnan(result.losses[int(result.num_steps) + 1 :]).all()


def on_the_line(kind):
    p = random_mixture(3, 10, 1, kind=kind)
    return parts.into(parts.frame(p), p)


@each_kind
def test_even_points_on_the_line_leave_next_to_no_error(kind):
    p = on_the_line(kind)
    blocks = cloud.draw(jax.random.key(0), p, 2, 512)
    moments = np.array([[np.sum(b.x[0] ** k * b.weight) for k in (1, 2)] for b in blocks])
    np.testing.assert_allclose(moments, [[0.0, 1.0]] * 2, atol=1e-7)


@each_kind
def test_scores_on_the_line_are_derivatives(kind):
    p = on_the_line(kind)
    (block,) = cloud.draw(jax.random.key(0), p, 1, 64)
    scores, h = cloud.scores(p, block), 1e-6
    for i, step in enumerate(h * np.eye(len(scores))):
        up, down = (cloud.log_prob(descent._stepped(p, s), block) for s in (step, -step))
        np.testing.assert_allclose((up - down) / (2 * h), scores[i], atol=1e-6)


def begun(p, blocks):
    """Where a search on the line begins to score."""
    batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], index(p, np.arange(0, 10, 3)))
    return index(em.run_em(batch, blocks, 1e-6, 5).gmm, 0)


def test_eight_steps_of_scoring_do_for_dozens_of_others():
    p = on_the_line("full")
    blocks = cloud.draw(jax.random.key(0), p, 2, 512)
    q = begun(p, blocks)
    scored, plain = (
        [place.value for place in itertools.islice(steps(q, blocks), count)]
        for steps, count in ((descent.by_scoring, 9), (descent._by_lbfgs, 25))
    )
    assert scored[-1] < min(plain) - 1e-6


def test_a_trial_keeps_its_components_wide():
    p = on_the_line("full")
    blocks = cloud.draw(jax.random.key(0), p, 1, 512)
    found, loss = descent.settled(begun(p, blocks), blocks, 0.0, 40)
    wide = found._replace(scale=1.2 * found.scale)
    least = (1.1 * np.min(found.scale)) ** 2  # it is met on the way back
    kept, more = descent.settled(wide, blocks, least, 40)
    assert np.min(kept.scale) ** 2 >= least
    assert more > loss
