"""Densities and integrals of many components, in tiles, are those of one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._matrices import tiles
from gmmjax._mixture import density
from gmmjax._pairs.pair_sums import log_product_blocks, log_products

COUNT = 70  # with 40 to a tile the second one is filled up
POINTS = 600


def structures():
    """A mixture of each structure; the last components are absent, and a tile holds none else."""
    g = random_mixture(0, COUNT, 3)
    g = g._replace(logits=g.logits.at[30:].set(-jnp.inf))
    deviations = jnp.diagonal(g.scale, axis1=1, axis2=2)
    scales = {
        "full": g.scale,
        "tied": g.scale[:1],
        "diagonal": deviations,
        "spherical": deviations[:, 0],
    }
    return {name: g._replace(scale=scale) for name, scale in scales.items()}


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "largest_table", lambda: 1000)
    monkeypatch.setattr(tiles, "tile_size", lambda: 40 * 3 * tiles.LENGTH)


def sum_of_logs(g, x, weight):
    """A number that depends on all densities, with its gradient."""
    prepared = density.prepare(g).density
    return jnp.vdot(weight, density.evaluate(prepared, x))


@pytest.mark.parametrize("structure", ["full", "tied", "diagonal", "spherical"])
def test_tiles_give_the_density_and_its_gradient(structure, small_tiles, monkeypatch):
    g = structures()[structure]
    rng = np.random.default_rng(0)
    x, weight = jnp.asarray(rng.normal(size=(3, POINTS))), jnp.asarray(rng.normal(size=POINTS))
    function = jax.value_and_grad(sum_of_logs, argnums=(0, 1))
    in_tiles = jax.jit(function)(g, x, weight)
    monkeypatch.setattr(tiles, "largest_table", lambda: 1 << 30)
    at_once = jax.jit(function)(g, x, weight)
    for a, b in zip(jax.tree.leaves(in_tiles), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def test_a_tile_left_out_is_seen(small_tiles, monkeypatch):
    """The twin: without the components of the first tile the density is another one."""
    g = random_mixture(0, COUNT, 3)
    x = np.random.default_rng(0).normal(size=(POINTS, 3))
    right = gmmjax.log_prob(g, x)
    cut = tiles.cut

    def without_first(leaf, count, *rest):
        return cut(leaf, count, *rest)[1 if count == COUNT else 0 :]

    monkeypatch.setattr(tiles, "cut", without_first)
    gmmjax._mixture.density._at_points.clear_cache()
    assert np.max(np.abs(gmmjax.log_prob(g, x) - right)) > 0.1
    gmmjax._mixture.density._at_points.clear_cache()


@pytest.mark.parametrize("dim", [2, 5])
def test_blocks_of_pairs_add_up_to_the_table(dim):
    """Written out entry by entry in few dimensions, and as matrices in more."""
    p, q = (random_mixture(seed, count, dim) for seed, count in ((0, 130), (1, 110)))
    p = p._replace(logits=p.logits.at[:3].set(-jnp.inf))

    def at_once(p, q):
        return jax.nn.logsumexp(log_products(p, q, 0.7, 0.6))

    def in_blocks(p, q):
        return jax.nn.logsumexp(log_product_blocks(p, q, 0.7, 0.6, size=50).log_sum)

    values, gradients = zip(
        *(jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(p, q) for f in (at_once, in_blocks)),
        strict=True,
    )
    np.testing.assert_allclose(*values, rtol=1e-12)
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        lower = np.tri(dim) if a.ndim == 3 else 1.0  # public functions see no more of factors
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a * lower, b * lower, rtol=1e-9, atol=1e-12)
    twin = jax.jit(at_once)(p, q._replace(logits=q.logits.at[-1].add(1e-6)))
    assert abs(twin - values[0]) > 1e-12 * abs(values[0])
