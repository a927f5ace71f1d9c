"""Differentiable divergences between Gaussian mixtures, in JAX.

1. A `GMM` is a NamedTuple of three arrays: `logits`, `means`, `scale`. Everything else is a function of it.
2. `f(key, p, q)` is a Monte-Carlo estimate and returns `Estimate(value, stderr)`; a function without a key is
   deterministic. The signature tells whether there is noise.
3. `kl_divergence(key, p, q)` means E_p[log p − log q]. Everything is in nats.
4. A function handles one mixture or one pair, and `jax.vmap` lifts it; only points may carry leading axes.
5. Every divergence is differentiable in all leaves of both mixtures, weights included.
"""

from importlib import metadata

from gmmjax import interop as interop
from gmmjax._algebra import affine as affine
from gmmjax._algebra import marginal as marginal
from gmmjax._algebra import mix as mix
from gmmjax._approximations import kl_matched as kl_matched
from gmmjax._approximations import kl_moment_matched as kl_moment_matched
from gmmjax._approximations import kl_product as kl_product
from gmmjax._approximations import kl_unscented as kl_unscented
from gmmjax._approximations import kl_variational as kl_variational
from gmmjax._bounds import Bounds as Bounds
from gmmjax._bounds import entropy_bounds as entropy_bounds
from gmmjax._bounds import js_bounds as js_bounds
from gmmjax._bounds import kl_bounds as kl_bounds
from gmmjax._build import from_covariances as from_covariances
from gmmjax._build import stack as stack
from gmmjax._compare import Comparison as Comparison
from gmmjax._compare import compare as compare
from gmmjax._density import component_log_prob as component_log_prob
from gmmjax._density import log_prob as log_prob
from gmmjax._density import responsibilities as responsibilities
from gmmjax._divergences import jeffreys_divergence as jeffreys_divergence
from gmmjax._divergences import kl_divergence as kl_divergence
from gmmjax._divergences import skew_kl_divergence as skew_kl_divergence
from gmmjax._entropies import cross_entropy as cross_entropy
from gmmjax._entropies import entropy as entropy
from gmmjax._entropies import mutual_information as mutual_information
from gmmjax._estimate import Estimate as Estimate
from gmmjax._estimate import expectation as expectation
from gmmjax._fit import FitResult as FitResult
from gmmjax._fit import fit as fit
from gmmjax._gaussian_divergences import gaussian_bhattacharyya as gaussian_bhattacharyya
from gmmjax._gaussian_divergences import gaussian_chi2 as gaussian_chi2
from gmmjax._gaussian_divergences import gaussian_kl as gaussian_kl
from gmmjax._gaussian_divergences import gaussian_renyi as gaussian_renyi
from gmmjax._gaussian_divergences import gaussian_squared_hellinger as gaussian_squared_hellinger
from gmmjax._gmm import GMM as GMM
from gmmjax._gmm import covariance as covariance
from gmmjax._gmm import covariances as covariances
from gmmjax._gmm import mean as mean
from gmmjax._gmm import weights as weights
from gmmjax._gradient import gradient as gradient
from gmmjax._io import load as load
from gmmjax._io import save as save
from gmmjax._js import generalised_js_divergence as generalised_js_divergence
from gmmjax._js import js_divergence as js_divergence
from gmmjax._merge import runnalls as runnalls
from gmmjax._merge import salmond as salmond
from gmmjax._merge import west as west
from gmmjax._merge import williams as williams
from gmmjax._pairwise import pairwise as pairwise
from gmmjax._points import iid as iid
from gmmjax._points import sobol as sobol
from gmmjax._powers import bhattacharyya_distance as bhattacharyya_distance
from gmmjax._powers import chi2_divergence as chi2_divergence
from gmmjax._powers import renyi_divergence as renyi_divergence
from gmmjax._powers import tsallis_divergence as tsallis_divergence
from gmmjax._products import cauchy_schwarz_divergence as cauchy_schwarz_divergence
from gmmjax._products import ise as ise
from gmmjax._products import mmd_squared as mmd_squared
from gmmjax._products import normalised_ise as normalised_ise
from gmmjax._products import renyi2_entropy as renyi2_entropy
from gmmjax._quadrature import entropy_quadrature as entropy_quadrature
from gmmjax._quadrature import js_quadrature as js_quadrature
from gmmjax._quadrature import kl_quadrature as kl_quadrature
from gmmjax._ratios import f_divergence as f_divergence
from gmmjax._ratios import squared_hellinger as squared_hellinger
from gmmjax._ratios import total_variation as total_variation
from gmmjax._reduce import reduce_mixture as reduce_mixture
from gmmjax._sample import sample as sample
from gmmjax._sliced import sliced_w2_squared as sliced_w2_squared
from gmmjax._starts import greedy_start as greedy_start
from gmmjax._starts import kmeans_start as kmeans_start
from gmmjax._starts import moment_start as moment_start
from gmmjax._starts import random_start as random_start
from gmmjax._target import kl_to_density as kl_to_density
from gmmjax._tolerance import ToleranceEstimate as ToleranceEstimate
from gmmjax._tolerance import estimate_to as estimate_to
from gmmjax._unconstrained import Unconstrained as Unconstrained
from gmmjax._unconstrained import constrain as constrain
from gmmjax._unconstrained import unconstrain as unconstrain
from gmmjax._wasserstein import gaussian_w2_squared as gaussian_w2_squared
from gmmjax._wasserstein import mw2_coupling as mw2_coupling
from gmmjax._wasserstein import mw2_squared as mw2_squared

__version__ = metadata.version("gmmjax")
