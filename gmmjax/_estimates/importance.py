"""Expectations of functions of the log-ratio t = log p − log q under the average ½(p + q)."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import density
from gmmjax._mixture.density import Density
from gmmjax._mixture.moments import recentred
from gmmjax._pairs import components
from gmmjax._sampling import engine, spikes, unseen
from gmmjax._sampling.settings import Sampling
from gmmjax._sampling.stages import estimate_in_stages


class _Params(NamedTuple):
    """The part of an integrand that is differentiated."""

    p: Density
    q: Density
    extra: Any


class Problem(NamedTuple):
    """What is static: E[function(t, extra)], where `function` closes over nothing traced."""

    function: Callable
    sampling: Sampling
    details: Hashable = None  # what else stages must know


def balanced_estimate(before: Callable, after: Callable) -> Callable:
    """An estimate `((key, (p, q), *more), problem)` of what is made of E[function(t, extra)].

    Args:
      before: `(p, q, *more, problem) -> (extra, known)` of prepared mixtures, without any points;
        `known` is for `after` alone.
      after: `(replicates, extra, known, problem) -> Estimate`.
    """

    def prepare(arrays, problem):
        key, mixtures, *more = arrays
        p, q = map(density.prepare, recentred(*mixtures))
        return key, p, q, *before(p, q, *more, problem)

    def end(begun, problem):
        sums, extra, known = begun
        integrand = functools.partial(_half, problem.function)
        found = engine.add_up(sums, (integrand, integrand), problem.sampling)
        return after(found, extra, known, problem)

    return estimate_in_stages(prepare, _begin, end)


def _begin(prepared, problem):
    key, p, q, extra, known = prepared
    integrand = functools.partial(_half, problem.function)
    terms = []
    log_peaks = [one.density.log_peaks for one in (p, q)]
    for sampled in (p, q):
        relations = components.relate_all(sampled.mixture, (p, q))
        narrow = spikes.spikes([p.mixture, q.mixture], relations)
        # A function of the ratio changes where the larger one of the two densities does.
        between = unseen.overlaps([jnp.concatenate(log_peaks)], narrow)
        terms.append(engine.Term(sampled.mixture, integrand, narrow, between))
    params = _Params(p.density, q.density, extra)
    sums = engine.begin(key, terms, params, problem.sampling, fixed_fit=True)
    return sums, extra, known


def _half(function, params, x):
    return 0.5 * function(log_ratio(params.p, params.q, x), params.extra), ()


def log_ratio(p: Density, q: Density, x: jax.Array) -> jax.Array:
    """Log p(x) − log q(x) at points `(D, n)` about 0."""
    return density.evaluate(p, x) - density.evaluate(q, x)
