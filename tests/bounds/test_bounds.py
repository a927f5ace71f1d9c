"""Bounds hold: over random pairs, where the truth is known to the last digit, and in hard
places.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import REFERENCE, alike, cast, densified, of_dimension, random_mixture
from scipy import special
from scipy.stats import multivariate_normal

import gmmjax
from gmmjax._bounds import by_components, cross_entropy, variational
from gmmjax._mixture.gmm import as_float, common_float
from gmmjax._pairs import components
from gmmjax._pairs.ratios import pairwise_log_integral

LARGEST = {1: 20, 5: 20, 30: 8}  # numbers of components in each dimension
PUBLISHED = [(name, jnp.float64) for name in REFERENCE]
PUBLISHED += [(name, jnp.float32) for name in of_dimension(1)]
KNOWN_UPPER = ("durrieu_upper", "hershey_olsen_upper", "convexity_upper")


# In few dimensions the public functions integrate; here they do as in many, where truths are known.
def kl_bounds(p, q):
    return gmmjax.Bounds(*_kl_bounds(*common_float(p=p, q=q)))


def js_bounds(p, q):
    return gmmjax.Bounds(*_js_bounds(*common_float(p=p, q=q)))


def entropy_bounds(p):
    return gmmjax.Bounds(*_entropy_bounds(as_float("p", p)))


_kl_bounds, _js_bounds, _entropy_bounds = map(
    jax.jit,
    (
        by_components.kl_by_components,
        by_components.js_by_components,
        by_components.entropy_by_components,
    ),
)


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
def every_bound(pairs):
    """KL, entropy and JS bounds of stacked pairs, one at a time: one compilation for all."""

    def each(pair):
        p, q = pair
        return kl_bounds(p, q), entropy_bounds(p), js_bounds(p, q)

    return jax.lax.map(each, pairs)


def mixture(seed, count, dim, spread=2.0):
    """The first components of one of the largest; arrays of numpy, for JAX compiles anew for each
    shape.
    """
    largest = random_mixture(seed, LARGEST[dim], dim, spread)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], largest)


def stacked(pairs):
    """Pairs of mixtures of any sizes, padded to one shape."""
    sides = (map(padded, side) for side in zip(*pairs, strict=True))
    return tuple(jax.tree.map(lambda *leaves: np.stack(leaves), *side) for side in sides)


def padded(g):
    absent = LARGEST[g.dim] - g.num_components
    wide = jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], absent, axis=0)]), g)
    wide.logits[g.num_components :] = -np.inf
    return wide


def parts(g):
    lower = np.tril(g.scale)
    return special.softmax(g.logits), g.means, lower @ lower.swapaxes(1, 2)


def log_density(g, x):
    each = zip(*parts(g), strict=True)
    table = [np.log(w) + multivariate_normal(m, c).logpdf(x) for w, m, c in each]
    return special.logsumexp(table, axis=0)


def plain_estimates(seed, p, q, count=4000):
    """Monte-Carlo means of KL, entropy and JS with their standard errors: plain draws, by numpy
    alone.
    """
    rng = np.random.default_rng(seed)

    def draws(g):
        weights, means, covariances = parts(g)
        which = rng.choice(g.num_components, size=count, p=weights)
        factors = np.linalg.cholesky(covariances)
        normals = rng.normal(size=(count, g.dim))
        return means[which] + np.einsum("nij,nj->ni", factors[which], normals)

    x, y = draws(p), draws(q)
    log_p = log_density(p, x)
    ratio_x, ratio_y = log_p - log_density(q, x), log_density(p, y) - log_density(q, y)
    js = np.log(2) - 0.5 * (np.logaddexp(0, -ratio_x) + np.logaddexp(0, ratio_y))
    return [(np.mean(s), np.std(s) / np.sqrt(count)) for s in (ratio_x, -log_p, js)]


@functools.cache
def random_pairs(dim):
    rng = np.random.default_rng(dim)
    sizes = rng.integers(1, LARGEST[dim] + 1, size=(6, 2))
    spreads = rng.choice([0.3, 1.0, 3.0], size=6) * np.sqrt(2 / dim)
    return [
        (mixture(10 * i, kp, dim, spread=s), mixture(10 * i + 5, kq, dim, spread=s))
        for i, ((kp, kq), s) in enumerate(zip(sizes, spreads, strict=True))
    ]


def equal_pairs(dim):
    """Pairs whose divergence is 0: the same mixture permuted, and with components split."""
    pairs = []
    for seed, count in enumerate((1, 2, 4, LARGEST[dim] // 2)):
        p = mixture(seed, count, dim, spread=1.0)
        split = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf])[::-1], p)
        pairs += [(p, p), (p, jax.tree.map(lambda leaf: leaf[::-1], p)), (p, split)]
    return pairs


def single_pairs(dim):
    """Pairs of Gaussians, for which both bounds are the truth."""
    return [(mixture(s, 1, dim), mixture(s + 50, 1, dim)) for s in range(4)]


class Found(NamedTuple):
    """Bounds of pairs, in float64 whatever they were computed in."""

    pairs: list
    kl: gmmjax.Bounds
    entropy: gmmjax.Bounds
    js: gmmjax.Bounds


@functools.cache
def found(dim, dtype):
    """Of random pairs, of equal ones and of single Gaussians: one compilation for all."""
    groups = [cast(pairs(dim), dtype) for pairs in (random_pairs, equal_pairs, single_pairs)]
    bounds = cast(every_bound(cast(stacked(sum(groups, [])), dtype)), jnp.float64)
    ends = np.cumsum([len(group) for group in groups])
    parts = zip(groups, [0, *ends], ends, strict=False)
    return [
        Found(cast(group, jnp.float64), *jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], bounds))
        for group, a, b in parts
    ]


each = pytest.mark.parametrize(
    ("dim", "dtype"), [(1, jnp.float32), (5, jnp.float64), (30, jnp.float32)]
)


@each
def test_bounds_are_never_violated(dim, dtype):
    random, _, _ = found(dim, dtype)
    for i, pair in enumerate(random.pairs):
        truths = plain_estimates(i, *pair)
        for bounds, (truth, stderr) in zip(random[1:], truths, strict=True):
            assert bounds.lower[i] - 5 * stderr <= truth <= bounds.upper[i] + 5 * stderr
            assert bounds.lower[i] < bounds.upper[i]


@each
def test_equal_mixtures_have_divergence_zero(dim, dtype):
    _, equal, _ = found(dim, dtype)
    for bounds in (equal.kl, equal.js):  # not one unit in the last place is forgiven here
        assert (bounds.lower == 0).all()
        assert (bounds.upper >= 0).all()
        assert (bounds.upper <= 300 * (dim + 3) * jnp.finfo(dtype).eps).all()


@each
def test_bounds_of_single_gaussians_are_the_truth_but_for_rounding(dim, dtype):
    _, _, single = found(dim, dtype)
    eps = jnp.finfo(dtype).eps
    for i, (p, q) in enumerate(single.pairs):
        kl, entropy = (jax.tree.map(lambda leaf, i=i: leaf[i], b) for b in single[1:3])
        truth = gmmjax.gaussian_kl(p, q)
        assert kl.lower <= truth <= kl.upper
        np.testing.assert_allclose(kl.upper, kl.lower, rtol=0, atol=80 * (dim + truth) * eps)
        truth = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * parts(p)[2][0])[1]
        assert entropy.lower <= truth <= entropy.upper
        np.testing.assert_allclose(entropy.upper, entropy.lower, rtol=0, atol=120 * dim * eps)


@each
def test_bounds_say_something(dim, dtype):
    """Bounds that say nothing would pass all of the above."""
    js = [group.js for group in found(dim, dtype)]
    lower, upper = np.concatenate([b.lower for b in js]), np.concatenate([b.upper for b in js])
    assert ((lower >= 0) & (upper <= jnp.log(2.0).astype(dtype))).all()
    assert (upper - lower < 0.6).mean() > 0.5
    assert (found(dim, dtype)[0].kl.lower > 0).any()


@functools.cache
def published():
    """Of each published pair: the library's bounds and those of the literature, on the line in both
    precisions.
    """

    def literature(p, q):
        kl, own = components.pairwise_kl(p, q), components.pairwise_kl(p, p)
        mean = variational.mean_log_sum
        entropies = cross_entropy.relative_entropies(p)[:, None]
        own_product = mean(p, p, entropies + pairwise_log_integral(p, p))
        product = mean(p, q, entropies + pairwise_log_integral(p, q))
        return {
            "durrieu_lower": mean(p, p, -own) - product,
            "durrieu_upper": own_product - mean(p, q, -kl),
            "hershey_olsen_upper": variational.variational_upper(p, q, kl),
            "convexity_upper": jax.nn.softmax(p.logits) @ kl @ jax.nn.softmax(q.logits),
        }

    @jax.jit
    def everything(p, q):
        bounds = kl_bounds(p, q), entropy_bounds(p), js_bounds(p, q)
        return *bounds, literature(p, q)

    return {(name, dtype): everything(*cast(alike(name), dtype)) for name, dtype in PUBLISHED}


@pytest.mark.parametrize(("name", "dtype"), PUBLISHED)
def test_published_pairs(name, dtype):
    kl, entropy, js, literature = published()[name, dtype]
    exact, known = REFERENCE[name]["exact"], REFERENCE[name]["approximations"]
    relative, absolute = {jnp.float32: (1e-4, 1e-4), jnp.float64: (1e-6, 1e-11)}[dtype]
    for key, value in literature.items():
        np.testing.assert_allclose(value, known[key], rtol=relative, atol=absolute)
    slack = {jnp.float32: 1e-4, jnp.float64: 1e-7}[dtype]
    digits = 1e-11  # of the reference
    smallest = min(known[upper] for upper in KNOWN_UPPER)
    largest = max(0, known["durrieu_lower"])
    assert largest * (1 - slack) - slack <= kl.lower <= exact["kl_pq"] + digits
    assert exact["kl_pq"] <= kl.upper + digits
    assert kl.upper <= smallest * (1 + slack)
    assert entropy.lower - digits <= exact["entropy_p"] <= entropy.upper + digits
    assert js.lower - digits <= exact["js"] <= js.upper + digits
    assert js.upper <= min(np.log(2), known["js_upper_variational"]) * (1 + slack) + slack
    wide = published()[name, jnp.float64][:3]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), (kl, entropy, js), wide
    )


def test_bounds_beat_the_literature_somewhere():
    kl, *_ = published()["pair_vs_wide", jnp.float64]
    known = REFERENCE["pair_vs_wide"]["approximations"]
    assert kl.upper < 0.9 * min(known[upper] for upper in KNOWN_UPPER)


def test_variational_upper_holds_however_long_it_ran(monkeypatch):
    p, q = alike("crouse_10_to_6")
    kl, truth = components.pairwise_kl(p, q), REFERENCE["crouse_10_to_6"]["exact"]["kl_pq"]
    values = []
    for steps in (0, 1, 3, 30, 1000):
        monkeypatch.setattr(variational, "MAX_ITERATIONS", steps)
        values.append(float(variational.variational_upper(p, q, kl)))
    assert sorted(values, reverse=True) == values
    assert truth < values[-1] < 0.9 * values[1]
    np.testing.assert_allclose(
        values[0], REFERENCE["crouse_10_to_6"]["approximations"]["convexity_upper"], rtol=1e-9
    )


BOUNDS = {
    "kl": kl_bounds,
    "js": js_bounds,
    "entropy": lambda p, q: entropy_bounds(p),
}


@functools.partial(jax.jit, static_argnums=0)
def values_and_gradients(bound, p, q):
    return bound(p, q), jax.jacrev(bound, argnums=(0, 1))(p, q)


P, Q = random_mixture(3, 3, 2, spread=1.5), random_mixture(5, 3, 2, spread=1.5)
TWICE = jax.tree.map(lambda leaf: leaf.at[2].set(leaf[1]), P)  # two components coincide
ABSENT = P._replace(logits=P.logits.at[0].set(-jnp.inf))
FAR = P._replace(means=P.means.at[0].add(1e4))
every = pytest.mark.parametrize("name", BOUNDS)


@every
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_gradients_are_those_of_the_values(name, side):
    direction = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), (P, Q)
    )

    def value(step):
        moved = jax.tree.map(lambda leaf, d: leaf + step * d, (P, Q), direction)
        return getattr(BOUNDS[name](*moved), side)

    gradient = getattr(values_and_gradients(BOUNDS[name], P, Q)[1], side)
    products = jax.tree.map(jnp.vdot, gradient, direction)
    slope = sum(jax.tree.leaves(products))
    # the iteration stops at 1e-8 of the value
    np.testing.assert_allclose(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-5, atol=1e-5)
    assert abs(slope) > 0.01 or side == "lower"


@every
@pytest.mark.parametrize(
    ("p", "q"),
    [(P, P), (TWICE, TWICE), (ABSENT, ABSENT), (ABSENT, Q), (Q, ABSENT), (FAR, Q), (Q, FAR)],
    ids=["equal", "coinciding", "absent", "absent p", "absent q", "far p", "far q"],
)
def test_values_and_gradients_in_hard_places(name, p, q):
    value, jacobian = values_and_gradients(BOUNDS[name], p, q)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, jacobian)))
    assert value.lower <= value.upper
    if p is q and name != "entropy":
        assert value.upper < 1e-13
        assert all(np.abs(leaf).max() < 1e-6 for leaf in jax.tree.leaves(jacobian))
    if p is ABSENT:
        assert (jacobian.upper[0].logits[0], jacobian.lower[0].logits[0]) == (0, 0)


@pytest.mark.parametrize("kind", ["diagonal", "tied", "tied spherical"])
def test_structure_is_its_dense_twin(kind):
    p, q = random_mixture(3, 3, 2, kind=kind), random_mixture(5, 3, 2, kind=kind)
    for bound in (kl_bounds, js_bounds):
        twin = bound(densified(p), densified(q))
        np.testing.assert_allclose(bound(p, q), twin, rtol=1e-6, atol=1e-12)


def test_mixed_structures():
    p, q = random_mixture(0, 3, 2, kind="tied"), random_mixture(1, 3, 2, kind="spherical")
    for bound in (kl_bounds, js_bounds):
        np.testing.assert_allclose(
            bound(p, q), bound(densified(p), densified(q)), rtol=1e-6, atol=1e-12
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_separated_modes_and_many_dimensions(dtype):
    p = cast(random_mixture(0, 3, 100, spread=10.0, kind="diagonal"), dtype)
    q = p._replace(logits=p.logits + jnp.array([0.0, 1.0, 2.0], dtype))
    w, v = (np.asarray(gmmjax.weights(g), float) for g in (p, q))
    m = (w + v) / 2
    log_dets = np.log(np.asarray(p.scale, float)).sum(axis=1)
    entropies = log_dets + 50 * np.log(2 * np.pi * np.e)
    truths = {
        "kl": np.sum(w * np.log(w / v)),
        "js": 0.5 * np.sum(w * np.log(w / m)) + 0.5 * np.sum(v * np.log(v / m)),
        "entropy": np.sum(w * (entropies - np.log(w))),
    }
    for name, truth in truths.items():
        lower, upper = BOUNDS[name](p, q)
        assert lower <= truth <= upper
        loss = 0.25 * 100 * 0.01**2 if name == "kl" else 0.0  # of γ = 0.99, to second order
        np.testing.assert_allclose(
            upper - lower, 0, atol=1.1 * loss + 10_000 * jnp.finfo(dtype).eps * max(1, truth)
        )


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(event) if "backend_compile" in event else None
)


@pytest.mark.parametrize("bound", [gmmjax.kl_bounds, gmmjax.js_bounds])
def test_two_programs_are_compiled_side_by_side_and_once(bound):
    p, q = random_mixture(0, 2, 3), random_mixture(1, 2, 3)
    counts = []
    for _ in range(2):
        before = len(COMPILED)
        alone = bound(p, q)
        counts.append(len(COMPILED) - before)
    assert counts == [2, 0]
    within = jax.jit(bound)(p, q)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), alone, within)
