"""Differentiable divergences between Gaussian mixtures, in JAX.

1. A `GMM` is a NamedTuple of three arrays: `logits`, `means`, `scale`. Everything else is a
   function of it.
2. `f(key, p, q)` is a Monte-Carlo estimate and returns `Estimate(value, stderr)`; a function
   without a key is deterministic. The signature tells whether there is noise.
3. `kl_divergence(key, p, q)` means E_p[log p − log q]. Everything is in nats.
4. A function handles one mixture or one pair, and `jax.vmap` lifts it (`stack` makes the batch);
   only points may carry leading axes.
5. Every divergence is differentiable in all leaves of both mixtures, weights included.
"""

import importlib as _importlib
from importlib import metadata as _metadata

from gmmjax import interop
from gmmjax._algebra.condition import condition
from gmmjax._algebra.product import convolve, product
from gmmjax._algebra.quantiles import cdf, quantile
from gmmjax._bounds.approximations import (
    kl_matched,
    kl_moment_matched,
    kl_product,
    kl_unscented,
    kl_variational,
)
from gmmjax._bounds.bounds import Bounds, entropy_bounds, js_bounds, kl_bounds
from gmmjax._estimates.distances import squared_hellinger, total_variation
from gmmjax._estimates.elbo import kl_to_density
from gmmjax._estimates.entropy import cross_entropy, entropy, mutual_information
from gmmjax._estimates.expectation import expectation
from gmmjax._estimates.f_divergences import f_divergence
from gmmjax._estimates.js import generalised_js_divergence, js_divergence
from gmmjax._estimates.kl import jeffreys_divergence, kl_divergence, skew_kl_divergence
from gmmjax._estimates.renyi import (
    bhattacharyya_distance,
    chi2_divergence,
    renyi_divergence,
    tsallis_divergence,
)
from gmmjax._estimates.sliced_wasserstein import sliced_w2_squared
from gmmjax._evaluation.compare import Comparison, compare
from gmmjax._evaluation.gradient import gradient
from gmmjax._evaluation.pairwise import pairwise
from gmmjax._evaluation.tolerance import ToleranceEstimate, estimate_to
from gmmjax._exact.component_kl import component_kl
from gmmjax._exact.gaussians import (
    gaussian_bhattacharyya,
    gaussian_chi2,
    gaussian_kl,
    gaussian_renyi,
    gaussian_squared_hellinger,
)
from gmmjax._exact.l2 import (
    cauchy_schwarz_divergence,
    ise,
    mmd_squared,
    normalised_ise,
    renyi2_entropy,
)
from gmmjax._exact.quadrature import entropy_quadrature, js_quadrature, kl_quadrature
from gmmjax._fitting.fit import FitResult, fit
from gmmjax._fitting.natural import natural_gradient
from gmmjax._mixture.affine import affine, marginal
from gmmjax._mixture.build import from_covariances
from gmmjax._mixture.density import component_log_prob, log_prob, responsibilities
from gmmjax._mixture.files import load, save
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.join import mix, pad, stack
from gmmjax._mixture.moments import covariance, covariances, mean, weights
from gmmjax._mixture.unconstrained import Unconstrained, constrain, unconstrain
from gmmjax._populations.bootstrap import bootstrap
from gmmjax._populations.em import em
from gmmjax._populations.interval import DataEstimate
from gmmjax._populations.refits import refits
from gmmjax._reduction.costs import runnalls, salmond, west, williams
from gmmjax._reduction.reduce import reduce_mixture
from gmmjax._reduction.starts import greedy_start, kmeans_start, moment_start, random_start
from gmmjax._sampling.devices import sharded
from gmmjax._sampling.estimate import Estimate
from gmmjax._sampling.points import iid, sobol
from gmmjax._sampling.sample import sample, weighted_sample
from gmmjax._transport.barycenter import mw2_barycenter
from gmmjax._transport.interpolate import mw2_interpolate, mw2_map
from gmmjax._transport.match import match, reorder
from gmmjax._transport.wasserstein import gaussian_w2_squared, mw2_coupling, mw2_squared
from gmmjax._variational.diagnostics import ImportanceDiagnostics, importance_diagnostics
from gmmjax._variational.fit_to_density import fit_to_density

__version__ = _metadata.version("gmmjax")


def __getattr__(name):
    """`gmmjax.plot`, which is imported when it is first asked for: it needs matplotlib."""
    if name == "plot":
        return _importlib.import_module("gmmjax.plot")
    raise AttributeError(f"module 'gmmjax' has no attribute {name!r}")


__all__ = [  # what help(gmmjax) lists
    "Bounds",
    "Comparison",
    "DataEstimate",
    "Estimate",
    "FitResult",
    "GMM",
    "ImportanceDiagnostics",
    "ToleranceEstimate",
    "Unconstrained",
    "affine",
    "bhattacharyya_distance",
    "bootstrap",
    "cauchy_schwarz_divergence",
    "cdf",
    "chi2_divergence",
    "compare",
    "component_kl",
    "component_log_prob",
    "condition",
    "constrain",
    "convolve",
    "covariance",
    "covariances",
    "cross_entropy",
    "em",
    "entropy",
    "entropy_bounds",
    "entropy_quadrature",
    "estimate_to",
    "expectation",
    "f_divergence",
    "fit",
    "fit_to_density",
    "from_covariances",
    "gaussian_bhattacharyya",
    "gaussian_chi2",
    "gaussian_kl",
    "gaussian_renyi",
    "gaussian_squared_hellinger",
    "gaussian_w2_squared",
    "generalised_js_divergence",
    "gradient",
    "greedy_start",
    "iid",
    "importance_diagnostics",
    "interop",
    "ise",
    "jeffreys_divergence",
    "js_bounds",
    "js_divergence",
    "js_quadrature",
    "kl_bounds",
    "kl_divergence",
    "kl_matched",
    "kl_moment_matched",
    "kl_product",
    "kl_quadrature",
    "kl_to_density",
    "kl_unscented",
    "kl_variational",
    "kmeans_start",
    "load",
    "log_prob",
    "marginal",
    "match",
    "mean",
    "mix",
    "mmd_squared",
    "moment_start",
    "mutual_information",
    "mw2_barycenter",
    "mw2_coupling",
    "mw2_interpolate",
    "mw2_map",
    "mw2_squared",
    "natural_gradient",
    "normalised_ise",
    "pad",
    "pairwise",
    "product",
    "quantile",
    "random_start",
    "reduce_mixture",
    "refits",
    "renyi2_entropy",
    "renyi_divergence",
    "reorder",
    "responsibilities",
    "runnalls",
    "salmond",
    "sample",
    "save",
    "sharded",
    "skew_kl_divergence",
    "sliced_w2_squared",
    "sobol",
    "squared_hellinger",
    "stack",
    "total_variation",
    "tsallis_divergence",
    "unconstrain",
    "weighted_sample",
    "weights",
    "west",
    "williams",
]
