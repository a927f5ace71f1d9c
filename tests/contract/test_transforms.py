"""Every public function under jit, vmap, grad and both precisions, from one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import KINDS, NOT_IN_TABLE, TABLE, random_mixture

import gmmjax


@pytest.fixture(autouse=True)
def strictly():
    """Types are mixed nowhere, in double precision as in single."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def scalar(result):
    """A sum over the value of an estimate, or over all leaves of anything else."""
    result = result.value if isinstance(result, gmmjax.Estimate) else result
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(result))


def close(a, b, tolerance=1e-11):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def test_table_is_complete():
    public = {name for name in vars(gmmjax) if not name.startswith("_")} - {"plot"}
    assert {f.name for f in TABLE} | NOT_IN_TABLE == public == set(gmmjax.__all__)


def kinds(function):
    """Types of covariance of both sides, others for the next function; dense twins are tested
    elsewhere.
    """
    pairs = [KINDS[:2], KINDS[2:4], KINDS[4:]]
    pair = pairs[TABLE.index(function) % 3]
    if function.name == "kl_divergence":
        return [*pairs, KINDS[:1] * 2]
    return [pair[:1] * 2] if function.properties.zero_at_equality else [pair]


@pytest.mark.parametrize(
    ("function", "kinds"),
    [pytest.param(f, pair, id="-".join((f.name, *pair))) for f in TABLE for pair in kinds(f)],
)
def test_batched_is_a_loop_traced_once_and_gradients_are_those_of_the_value(function, kinds, key):
    """Forward and reverse, and what the function says of itself: one program for a pair, one for a
    grid.
    """

    def mixtures(seed):
        p, q = (random_mixture(seed + 9 * i, 3, 2, kind=kind) for i, kind in enumerate(kinds))
        return p, q

    p, q = mixtures(0)
    single = Single(function)
    forwards_and_backwards(function, single, key, (p, q), mixtures(1))
    if function.sticks:
        leaves_out_mean_zero(single, key, (p, q))
    if function.properties.zero_at_equality and kinds[0] == kinds[1]:
        table = over_a_grid(function, single, key, (p, p, q), (q, p, p))
        holds_what_it_says(function.properties, table)
    else:
        over_a_grid(function, single, key, (p, p), (q, mixtures(2)[1]))


def holds_what_it_says(known, table):
    """Zero at equality, and symmetric or not; the pairs are (p, q), (p, p) and (q, p)."""
    value, stderr = value_and_stderr(table)
    there, same, back = value.T
    rounding = 1e-13 * (1 + np.abs(there))
    assert (np.abs(there) > 0.01).all()
    assert (np.abs(same) <= 3 * stderr[:, 1] + rounding).all()
    if known.symmetric:
        noise = 4 * np.hypot(stderr[:, 0], stderr[:, 2])
        assert (np.abs(there - back) <= noise + rounding).all()
    else:
        assert (np.abs(there - back) > rounding).all()


def value_and_stderr(result):
    """Of an estimate; of bounds the upper one, for 0 is a lower bound of any divergence."""
    if isinstance(result, gmmjax.Estimate):
        return result
    value = result.upper if isinstance(result, gmmjax.Bounds) else result
    return value, np.zeros_like(value)


class Single:
    """The function on one pair, compiled once: its value, its derivative along a direction,
    gradient and result.
    """

    def __init__(self, function):
        def call(key, pair):
            result = function.of_one_key(key, *pair)
            return scalar(result), result

        @jax.jit
        def run(key, pair, direction):
            value, slope, result = jax.linearize(lambda pair: call(key, pair), pair, has_aux=True)
            (gradient,) = jax.linear_transpose(slope, pair)(jnp.ones_like(value))
            default = (
                jax.grad(lambda pair: scalar(function.call(key, *pair)))(pair)
                if function.sticks
                else gradient
            )
            return (
                value,
                slope(direction),
                gradient,
                result,
                jax.tree.map(jnp.subtract, default, gradient),
            )

        self.run = run

    def value(self, key, pair):
        return self.run(key, pair, pair)[3]

    def left_out(self, key, pair):
        """Of its gradient by default."""
        return self.run(key, pair, pair)[4]


def forwards_and_backwards(function, single, key, pair, direction):
    value, forward, gradient, result, _ = single.run(key, pair, direction)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    reverse = sum(
        np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)
    )
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-9)
    if not function.pathwise:
        direction = tuple(d._replace(logits=0 * d.logits) for d in direction)
        forward = single.run(key, pair, direction)[1]
    at = lambda h: single.run(
        key, jax.tree.map(lambda leaf, d: leaf + h * d, pair, direction), direction
    )[0]
    # Bounds stop iterating at 1e-8 of their value.
    np.testing.assert_allclose(forward, (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-5, atol=1e-9)
    assert {leaf.dtype for leaf in jax.tree.leaves((result, gradient))} == {jnp.dtype(jnp.float64)}


def leaves_out_mean_zero(single, key, pair):
    """Sticking the landing leaves something out of the gradient, and on average nothing."""
    gaps = [jax.tree.leaves(single.left_out(key, pair)) for key in jax.random.split(key, 64)]
    for leaf in map(np.stack, zip(*gaps, strict=True)):
        assert np.isfinite(leaf).all()
        assert (np.abs(leaf.mean(0)) <= 6 * leaf.std(0) / 8 + 1e-12).all()
    assert max(np.abs(leaf).max() for leaf in gaps[0]) > 1e-6


def over_a_grid(function, single, key, ps, qs):
    """Of two keys and several pairs in one program, which is traced once however often it runs."""
    traces = []

    def counted(key, p, q):
        traces.append(1)
        return function.call(key, p, q)

    over_pairs = jax.vmap(counted, in_axes=(None, 0, 0))
    grid = jax.jit(jax.vmap(over_pairs, in_axes=(0, None, None), axis_size=2))
    batch = [jax.tree.map(lambda *leaves: np.stack(leaves), *side) for side in (ps, qs)]
    grid(jax.random.split(jax.random.fold_in(key, 1), 2), *batch)
    keys = jax.random.split(key, 2)
    table = grid(keys, *batch)
    assert len(traces) == 1
    for i, j in np.ndindex(2, len(ps)):
        close(
            jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], table),
            single.value(keys[i], (ps[j], qs[j])),
        )
    return table


def test_a_second_call_compiles_nothing():
    seen = []

    def counted(*arguments):
        seen.append(arguments)
        return gmmjax.sobol(*arguments)

    def traces(seed, count):
        before = len(seen)
        p, q = random_mixture(seed, count, 2), random_mixture(seed + 9, 2, 2)
        gmmjax.kl_divergence(jax.random.key(seed), p, q, points=counted)
        return len(seen) - before

    assert traces(0, 3) > 0
    assert traces(1, 3) == traces(2, 3) == 0
    assert traces(0, 4) > 0
