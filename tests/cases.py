"""Mixtures that the tests share, and the one table of public functions."""

import functools
import inspect
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gmmjax
from gmmjax._properties import properties

REFERENCE = json.loads((Path(__file__).parent / "pairs.json").read_text())
LEAVES = ("logits", "means", "scale")


def _mixture(weights, means, factors):
    """A mixture made in NumPy: `from_covariances` would compile a dozen small programs for every
    new shape.
    """
    return gmmjax.GMM(*map(jnp.asarray, (np.log(weights), means, factors)))


def _published(name, side):
    """Weights, means and Cholesky factors of a published mixture."""
    weights, means, covariances = (
        np.asarray(REFERENCE[name][side][k]) for k in ("weights", "means", "covariances")
    )
    return weights / weights.sum(), means, np.linalg.cholesky(covariances)


def _padded(parts, count):
    """The same with absent components, which repeat the last one, up to `count`."""
    missing = count - len(parts[0])
    weights, means, factors = parts
    repeat = lambda leaf: np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])
    return np.append(weights, np.zeros(missing)), repeat(means), repeat(factors)


def _stacked(mixtures):
    """Leaves of all of them, in one shape."""
    count = max(len(weights) for weights, _, _ in mixtures)
    with np.errstate(divide="ignore"):
        return _mixture(
            *map(np.stack, zip(*(_padded(parts, count) for parts in mixtures), strict=True))
        )


def reference(name):
    """Both mixtures of a published pair."""
    return tuple(_mixture(*_published(name, side)) for side in "pq")


def of_dimension(dim):
    """Names of the published pairs of one dimension."""
    return [name for name in REFERENCE if len(REFERENCE[name]["p"]["means"][0]) == dim]


@functools.cache
def stacked_reference(dim):
    """All published pairs of one dimension in one shape, absent components appended: one
    compilation for all.
    """
    return tuple(_stacked([_published(name, side) for name in of_dimension(dim)]) for side in "pq")


@functools.cache
def padded_reference(dim):
    """The same, by name."""
    take = lambda i: jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf)[i]), stacked_reference(dim)
    )
    return {name: take(i) for i, name in enumerate(of_dimension(dim))}


def alike(name):
    """A published pair, padded to the shape of the others of its dimension."""
    return padded_reference(len(REFERENCE[name]["p"]["means"][0]))[name]


def random_mixture(seed, num_components, dim, spread=2.0, kind="full"):
    """A mixture with random weights, means of size `spread`, and well-conditioned random
    covariances.
    """
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(num_components, dim, dim)) / np.sqrt(dim)
    dense = 0.7 * factor @ factor.swapaxes(1, 2) + 0.3 * np.eye(dim)
    variances = np.diagonal(dense, axis1=1, axis2=2)
    shape = {
        "full": dense,
        "diagonal": variances,
        "spherical": variances[:, 0],
        "tied": dense[:1],
        "tied diagonal": variances[:1],
        "tied spherical": variances[:1, 0],
    }[kind]
    weights = rng.dirichlet(np.full(num_components, 2.0))
    factors = np.linalg.cholesky(shape) if kind in ("full", "tied") else np.sqrt(shape)
    return _mixture(weights, spread * rng.normal(size=(num_components, dim)), factors)


KINDS = ("full", "diagonal", "spherical", "tied", "tied diagonal", "tied spherical")


def densified(g):
    """The same mixture with a full scale."""
    return gmmjax.from_covariances(gmmjax.weights(g), g.means, gmmjax.covariances(g))


def cast(tree, dtype):
    """Floating leaves in another dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


class Function(NamedTuple):
    """One public function as `call(key, p, q)`, and what holds for it."""

    name: str
    call: object
    # the gradient in the weights is the derivative of the value, not another estimate of it
    pathwise: bool = True

    @property
    def properties(self):
        """What the function says of itself."""
        return properties(getattr(gmmjax, self.name))

    @property
    def sticks(self):
        """Whether by default its gradient leaves out a term of mean zero."""
        return "stick_the_landing" in inspect.signature(getattr(gmmjax, self.name)).parameters

    def of_one_key(self, key, p, q):
        """With the derivative of this very value as its gradient."""
        return self.call(key, p, q, **{"stick_the_landing": False} if self.sticks else {})


def _points(g):
    return jnp.linspace(-1.0, 1.0, 5 * g.dim, dtype=g.means.dtype).reshape(5, g.dim)


def _forward(t):
    return t * jnp.exp(t)


def estimate(name, pathwise=True, arguments=lambda p, q: (p, q), **options):
    """A public estimate; of two mixtures, unless it takes other arguments."""
    public = functools.partial(getattr(gmmjax, name), num_samples=256, **options)

    def call(key, p, q, **more):
        return public(key, *arguments(p, q), **more)

    return Function(name, call, pathwise)


def _first(g):
    return jax.tree.map(lambda leaf: leaf[:1], g)


def _with_weights(g):
    """In the place of logits, of which some are −inf."""
    return g._replace(logits=gmmjax.weights(g))


def _line(g):
    """On the first axis: quadrature in the plane has tests of its own, for it compiles slowly."""
    return gmmjax.marginal(g, (0,))


def _towards(p, q):
    """Of the second a mixture whose scale is near that of p, so that ∫ p² / q is finite."""
    return q._replace(scale=0.75 * p.scale + 0.25 * q.scale)


def _gap(p, q):
    moments = [(gmmjax.mean(g)[None], gmmjax.covariance(g)) for g in (p, q)]
    return sum(jnp.sum((a - b) ** 2) for a, b in zip(*moments, strict=True))


def _quadratic(x):
    return -0.5 * jnp.sum(x**2, axis=1)


def _distance(key, p, q):
    return jnp.sum((gmmjax.mean(p) - gmmjax.mean(q)) ** 2) + jnp.sum(gmmjax.covariance(p) ** 2)


# Small sample counts: these tests ask for types and transformations, not for accuracy.
TABLE = [
    Function("weights", lambda key, p, q: gmmjax.weights(p)),
    Function("covariances", lambda key, p, q: gmmjax.covariances(p)),
    Function("mean", lambda key, p, q: gmmjax.mean(p)),
    Function("covariance", lambda key, p, q: gmmjax.covariance(p)),
    Function(
        "from_covariances",
        lambda key, p, q: gmmjax.from_covariances(p.logits**2 + 1, p.means, p.means**2 + 1),
    ),
    Function("stack", lambda key, p, q: gmmjax.stack([p, p])),
    Function("pad", lambda key, p, q: gmmjax.pad(p, 4)[1:]),
    Function("marginal", lambda key, p, q: gmmjax.marginal(p, [1])),
    Function("mix", lambda key, p, q: gmmjax.mix([p, q], gmmjax.weights(p)[:2])),
    Function("affine", lambda key, p, q: gmmjax.affine(p, q.means[:2], q.means[0])),
    Function("condition", lambda key, p, q: gmmjax.condition(p, [1], q.means[0, :1])),
    Function("product", lambda key, p, q: gmmjax.product(p, q)),
    Function("convolve", lambda key, p, q: gmmjax.convolve(p, q)),
    Function("cdf", lambda key, p, q: gmmjax.cdf(_line(p), q.means)),
    Function("quantile", lambda key, p, q: gmmjax.quantile(_line(p), gmmjax.weights(q))),
    Function("reorder", lambda key, p, q: gmmjax.reorder(p, [2, 0])),
    Function("unconstrain", lambda key, p, q: gmmjax.unconstrain(p)),
    Function("constrain", lambda key, p, q: gmmjax.constrain(gmmjax.unconstrain(p))),
    Function("log_prob", lambda key, p, q: gmmjax.log_prob(p, _points(p))),
    Function("component_log_prob", lambda key, p, q: gmmjax.component_log_prob(p, _points(p))),
    Function("responsibilities", lambda key, p, q: gmmjax.responsibilities(p, _points(p))),
    Function("sample", lambda key, p, q: gmmjax.sample(key, p, 64)),
    Function("weighted_sample", lambda key, p, q: gmmjax.weighted_sample(key, p, 64)),
    estimate("expectation", arguments=lambda p, q: (_quadratic, p)),
    estimate("kl_divergence"),
    estimate("jeffreys_divergence"),
    estimate("skew_kl_divergence", alpha=0.3),
    estimate("js_divergence"),
    estimate("generalised_js_divergence", arguments=lambda p, q: ([p, q], [1.0, 2.0])),
    estimate("cross_entropy"),
    estimate("entropy", arguments=lambda p, q: (p,)),
    estimate("mutual_information", arguments=lambda p, q: (p,)),
    estimate("total_variation"),
    estimate("squared_hellinger"),
    estimate("f_divergence", generator=_forward),
    estimate("bhattacharyya_distance"),
    estimate("chi2_divergence"),
    estimate("renyi_divergence", alpha=0.7),
    estimate("tsallis_divergence", alpha=0.7),
    Function(
        "gaussian_w2_squared", lambda key, p, q: gmmjax.gaussian_w2_squared(_first(p), _first(q))
    ),
    Function("mw2_squared", lambda key, p, q: gmmjax.mw2_squared(p, q)),
    Function("mw2_coupling", lambda key, p, q: gmmjax.mw2_coupling(p, q)),
    Function("mw2_map", lambda key, p, q: gmmjax.mw2_map(p, q, _points(p))),
    Function("mw2_interpolate", lambda key, p, q: _with_weights(gmmjax.mw2_interpolate(p, q, 0.3))),
    Function("mw2_barycenter", lambda key, p, q: _with_weights(gmmjax.mw2_barycenter([p, q]))),
    estimate("sliced_w2_squared", pathwise=False),
    Function(
        "pairwise",
        lambda key, p, q: gmmjax.pairwise(_gap, None, gmmjax.stack([p, q]), gmmjax.stack([q])),
    ),
    Function("kl_quadrature", lambda key, p, q: gmmjax.kl_quadrature(_line(p), _line(q))),
    Function("js_quadrature", lambda key, p, q: gmmjax.js_quadrature(_line(p), _line(q))),
    Function("entropy_quadrature", lambda key, p, q: gmmjax.entropy_quadrature(_line(p))),
    Function("ise", lambda key, p, q: gmmjax.ise(p, q)),
    Function("normalised_ise", lambda key, p, q: gmmjax.normalised_ise(p, q)),
    Function("cauchy_schwarz_divergence", lambda key, p, q: gmmjax.cauchy_schwarz_divergence(p, q)),
    Function("renyi2_entropy", lambda key, p, q: gmmjax.renyi2_entropy(p)),
    Function("mmd_squared", lambda key, p, q: gmmjax.mmd_squared(p, q, 1.5)),
    Function("component_kl", lambda key, p, q: gmmjax.component_kl(p, q)),
    Function("gaussian_kl", lambda key, p, q: gmmjax.gaussian_kl(_first(p), _first(q))),
    Function("gaussian_renyi", lambda key, p, q: gmmjax.gaussian_renyi(_first(p), _first(q), 0.7)),
    Function(
        "gaussian_bhattacharyya",
        lambda key, p, q: gmmjax.gaussian_bhattacharyya(_first(p), _first(q)),
    ),
    Function(
        "gaussian_squared_hellinger",
        lambda _, p, q: gmmjax.gaussian_squared_hellinger(_first(p), _first(q)),
    ),
    Function(
        "gaussian_chi2",
        lambda key, p, q: gmmjax.gaussian_chi2(_first(p), _towards(_first(p), _first(q))),
    ),
    Function("kl_bounds", lambda key, p, q: gmmjax.kl_bounds(p, q)),
    Function("entropy_bounds", lambda key, p, q: gmmjax.entropy_bounds(p)),
    Function("js_bounds", lambda key, p, q: gmmjax.js_bounds(p, q)),
    Function("kl_variational", lambda key, p, q: gmmjax.kl_variational(p, q)),
    Function("kl_product", lambda key, p, q: gmmjax.kl_product(p, q)),
    Function("kl_matched", lambda key, p, q: gmmjax.kl_matched(p, q)),
    Function("kl_unscented", lambda key, p, q: gmmjax.kl_unscented(p, q)),
    Function("kl_moment_matched", lambda key, p, q: gmmjax.kl_moment_matched(p, q)),
    estimate("kl_to_density", arguments=lambda p, q: (p, _quadratic)),
    Function(
        "fit",
        lambda key, p, q: gmmjax.fit(key, _distance, p, args=(q,), num_steps=3, patience=None).gmm,
    ),
    Function("runnalls", lambda key, p, q: gmmjax.runnalls(p, 0)[1:]),
    Function("salmond", lambda key, p, q: gmmjax.salmond(p, 0)[1:]),
    Function("west", lambda key, p, q: gmmjax.west(p, 0)[1][1:]),
    Function("williams", lambda key, p, q: jax.jit(gmmjax.williams)(p, 0)[1:]),
    Function("greedy_start", lambda key, p, q: gmmjax.greedy_start(key, p, 2)),
    Function("kmeans_start", lambda key, p, q: gmmjax.kmeans_start(key, p, 2)),
    Function("moment_start", lambda key, p, q: gmmjax.moment_start(key, p, 2)),
    Function("random_start", lambda key, p, q: gmmjax.random_start(key, p, 2)),
]

NOT_IN_TABLE = {
    "GMM",
    "Bounds",
    "Comparison",
    "compare",
    "Estimate",
    "FitResult",
    "ImportanceDiagnostics",
    "ToleranceEstimate",
    "estimate_to",
    "gradient",
    "Unconstrained",
    "iid",
    "sobol",
    "sharded",
    "save",
    "load",
    "interop",
}
# whole numbers, which have no gradient
NOT_IN_TABLE |= {"match"}
# chooses between starts in Python; its own tests ask for the rest
NOT_IN_TABLE |= {"reduce_mixture"}
# an optax transformation
NOT_IN_TABLE |= {"natural_gradient"}
# Take a density, and no gradient passes through the choices they make; their own tests ask for the
# rest.
NOT_IN_TABLE |= {"fit_to_density", "importance_diagnostics"}
# Takes rows, and refuses gradients; its own tests ask for the rest.
NOT_IN_TABLE |= {"em", "refits", "bootstrap", "DataEstimate"}
