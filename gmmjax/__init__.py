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
from gmmjax._build import from_covariances as from_covariances
from gmmjax._build import stack as stack
from gmmjax._density import component_log_prob as component_log_prob
from gmmjax._density import log_prob as log_prob
from gmmjax._density import responsibilities as responsibilities
from gmmjax._divergences import js_divergence as js_divergence
from gmmjax._divergences import kl_divergence as kl_divergence
from gmmjax._estimate import Estimate as Estimate
from gmmjax._estimate import expectation as expectation
from gmmjax._fit import FitResult as FitResult
from gmmjax._fit import fit as fit
from gmmjax._gmm import GMM as GMM
from gmmjax._gmm import covariance as covariance
from gmmjax._gmm import covariances as covariances
from gmmjax._gmm import mean as mean
from gmmjax._gmm import weights as weights
from gmmjax._io import load as load
from gmmjax._io import save as save
from gmmjax._merge import runnalls as runnalls
from gmmjax._merge import salmond as salmond
from gmmjax._merge import west as west
from gmmjax._merge import williams as williams
from gmmjax._points import iid as iid
from gmmjax._points import sobol as sobol
from gmmjax._reduce import reduce_mixture as reduce_mixture
from gmmjax._sample import sample as sample
from gmmjax._starts import greedy_start as greedy_start
from gmmjax._starts import kmeans_start as kmeans_start
from gmmjax._starts import moment_start as moment_start
from gmmjax._starts import random_start as random_start
from gmmjax._unconstrained import Unconstrained as Unconstrained
from gmmjax._unconstrained import constrain as constrain
from gmmjax._unconstrained import unconstrain as unconstrain
from gmmjax._target import kl_to_density as kl_to_density

__version__ = metadata.version("gmmjax")
