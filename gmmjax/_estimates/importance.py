"""Expectations of functions of the log-ratio t = log p − log q under the average m = ½(p + q) of
two mixtures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import components, density, linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._sampling import settings, unseen
from gmmjax._sampling.engine import Term, replicates
from gmmjax._sampling.estimate import carried_by_few


class Pair(NamedTuple):
    """Two mixtures about 0, and what their log-ratio needs."""

    mixtures: tuple[GMM, ...]
    inverses: list[jax.Array]
    densities: tuple[density.Precision, ...]


def pair(p: GMM, q: GMM) -> Pair:
    """Of checked mixtures."""
    mixtures = recentred(p, q)
    inverses = [linalg.inverse_scale(g.scale, g.means) for g in mixtures]
    return Pair(mixtures, inverses, tuple(map(density.precision, mixtures, inverses)))


def balanced_replicates(key, both: Pair, function, extra, sampling: settings.Sampling):
    """E_m[function(t, extra)], and the means of its replicates; `function` closes over nothing
    traced.
    """
    integrand = lambda params, x: (0.5 * function(log_ratio(params[0], x), params[1]), ())
    terms = []
    for g in both.mixtures:
        relations = [
            components.relate(g, h, m) for h, m in zip(both.mixtures, both.inverses, strict=True)
        ]
        terms.append(Term(g, integrand, unseen.spikes(both.mixtures, relations)))
    return replicates(key, terms, (both.densities, extra), sampling)


def log_ratio(densities: Sequence[density.Precision], x):
    """Log p(x) − log q(x), of the precision of both."""
    log_p, log_q = (density.evaluate(prepared, x) for prepared in densities)
    return log_p - log_q


def tail_checked(stderr: jax.Array, means: jax.Array) -> jax.Array:
    """The standard error, or infinity where one replicate carries far more than its share of the
    sum.

    A few points that carry a sum are the sign of a tail that the others have not seen, and of a
    variance that may be infinite: the spread of the replicates then says nothing about the error.
    """
    size = jax.lax.stop_gradient(jnp.abs(means))
    sound = jnp.isfinite(jnp.max(size)) & ~carried_by_few(size)
    return jnp.where(sound, stderr, jnp.inf)
