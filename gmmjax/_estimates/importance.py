"""Expectations of functions of the log-ratio t = log p − log q under the average ½(p + q)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gmmjax._mixture import components, density
from gmmjax._mixture.density import Density, Prepared
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._sampling import blocks, spikes
from gmmjax._sampling.engine import Term, replicates
from gmmjax._sampling.estimate import Replicates
from gmmjax._sampling.settings import Sampling


class _Params(NamedTuple):
    """The part of an integrand that is differentiated."""

    p: Density
    q: Density
    extra: Any


def prepare_pair(p: GMM, q: GMM) -> tuple[Prepared, Prepared]:
    """Recentre two checked mixtures and prepare both."""
    p, q = recentred(p, q)
    return density.prepare(p), density.prepare(q)


def balanced_replicates(
    key, p: Prepared, q: Prepared, function: Callable, extra, sampling: Sampling
) -> Replicates:
    """E[function(t, extra)] under ½(p + q); `function` closes over nothing traced."""
    finish = functools.partial(_finish, function, sampling)
    finish = blocks.in_bounded_memory(finish, sampling, (p.mixture, q.mixture))
    value, rest = finish((key, p, q, extra))
    return Replicates(value, *rest)


def _finish(function, sampling, arguments):
    """The value of the replicates, and the rest of them, which has no gradient."""
    key, p, q, extra = arguments
    integrand = functools.partial(_half, function)
    terms = []
    for sampled in (p, q):
        relations = components.relate_all(sampled.mixture, (p, q))
        narrow = spikes.spikes([p.mixture, q.mixture], relations)
        terms.append(Term(sampled.mixture, integrand, narrow))
    params = _Params(p.density, q.density, extra)
    value, *rest = replicates(key, terms, params, sampling)
    return value, rest


def _half(function, params, x):
    return 0.5 * function(log_ratio(params.p, params.q, x), params.extra), ()


def log_ratio(p: Density, q: Density, x: jax.Array) -> jax.Array:
    """Log p(x) − log q(x) at points `(D, n)` about 0."""
    return density.evaluate(p, x) - density.evaluate(q, x)
