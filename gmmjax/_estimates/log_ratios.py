"""Sums of E_p[log a − log b]: what divergences and entropies of Shannon's kind have in common."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._estimates.recipes import BLEND, LogRatio, Options, Problem
from gmmjax._logs import log_softmax
from gmmjax._mixture import density
from gmmjax._mixture.density import Density, Prepared
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._pairs import components
from gmmjax._sampling import spikes, unseen
from gmmjax._sampling.control_variates import Control
from gmmjax._sampling.engine import Begun, Term, add_up, begin
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.settings import Sampling
from gmmjax._sampling.stages import estimate_in_stages


class Params(NamedTuple):
    """The part of all integrands that is differentiated."""

    scales: Sequence[jax.Array] | None
    log_blend: jax.Array | None  # (L,)
    densities: dict[tuple[int, bool], Density]


def estimate_log_ratios(
    key,
    mixtures: Sequence[GMM],
    ratios: tuple[LogRatio, ...],
    sampling: Sampling,
    options: Options,
    *,
    scales: Sequence[jax.typing.ArrayLike] | None = None,
    blend: Sequence[jax.typing.ArrayLike] | jax.Array | None = None,
) -> Estimate:
    """Σ_j scale_j E[log of_j − log over_j], in nats.

    A mixture's score has mean zero under itself, and sticking the landing leaves it out of the
    gradient: in the logarithm of the sampled mixture, and in that of the blend where all mixtures
    together sample it.

    Args:
      key: a JAX key.
      mixtures: L checked mixtures.
      ratios: what to estimate.
      sampling: how many points, and which.
      options: what to do with them.
      scales: one of each ratio; 1 by default.
      blend: the weight of each mixture in the blend, where there is one.
    """
    problem = Problem(ratios, len(mixtures), sampling, options)
    return _estimate((key, tuple(mixtures), scales, blend), problem)


class _Begun(NamedTuple):
    """An estimate before its points."""

    sums: Begun
    ceiling: jax.Array | None  # the largest divergence from a blend


def _prepare(arrays, problem):
    """The sampled mixtures, about the common mean, and all densities."""
    key, mixtures, scales, blend = arrays
    dtype = mixtures[0].means.dtype
    mixtures = recentred(*mixtures)
    scales = None if scales is None else [jnp.asarray(scale, dtype) for scale in scales]
    log_blend = None if blend is None else jnp.log(jnp.asarray(blend, dtype))
    reference = _heaviest_normaliser(mixtures[0]) if problem.is_balanced else 0.0
    # One by one: what is of one mixture alone is then shared by all estimates that `vmap` makes
    # with it.
    prepared = {
        name: density.prepare(
            _detach(mixtures[name[0]]) if name[1] else mixtures[name[0]], reference
        )
        for name in dict.fromkeys(name for recipe in problem.recipes for name in recipe.densities)
    }
    sampled = {recipe.under: mixtures[recipe.under] for recipe in problem.recipes}
    packed = {name: density.packed(d) for name, d in prepared.items()}
    return key, sampled, scales, log_blend, packed


def _begin(arguments, problem):
    key, mixtures, scales, log_blend, packed = arguments
    recipes, options = problem.recipes, problem.options
    prepared = {name: density.unpacked(d) for name, d in packed.items()}
    params = Params(scales, log_blend, {name: d.density for name, d in prepared.items()})
    terms = [_term(recipe, mixtures, prepared, params, options) for recipe in recipes]
    begun = begin(key, terms, params, problem.sampling, options.stick_the_landing)
    hidden = begun.hidden
    for recipe in recipes if problem.is_balanced else ():
        rounding = unseen.rounding([prepared[name] for name in recipe.densities])
        hidden += _scaled(params, recipe.index, jnp.ones_like(hidden)) ** 2 * rounding
    blended = all(ratio.over == BLEND for ratio in problem.ratios)
    ceiling = _ceiling(problem.ratios, params) if blended else None
    return _Begun(begun._replace(hidden=hidden), ceiling)


def _end(begun, problem):
    integrands = tuple(
        functools.partial(_with_features if subtracted.slopes else _integrand, recipe)
        for recipe, subtracted in zip(problem.recipes, begun.sums.arguments.baselines, strict=True)
    )
    found = add_up(begun.sums, integrands, problem.sampling)
    ceiling = begun.ceiling
    if ceiling is None:
        return conclude(found)
    # Divergences from a blend are at most this; few points may carry what is missing to it. It is
    # infinite where a mixture has no part in the blend.
    missed = unseen.missed_point(ceiling - found.alike, ceiling, problem.sampling.num_samples)
    missed = jnp.where(jnp.isinf(ceiling), 0.0, missed)
    return conclude(found, missed, bound=ceiling)


_estimate = estimate_in_stages(_prepare, _begin, _end)


def _heaviest_normaliser(g):
    """½ log|2π Σ| of the heaviest component, a constant."""
    g = _detach(g)
    return density.log_normalisers(g)[jnp.argmax(g.logits)]


def _detach(g):
    return jax.lax.stop_gradient(g)


def _ceiling(ratios, params):
    """−Σ_j scale_j log b_j, the largest divergence of mixtures from their blend."""
    total = jnp.zeros((), params.log_blend.dtype)
    for index, ratio in enumerate(ratios):
        total -= _scaled(params, index, params.log_blend[ratio.under])
    return jax.lax.stop_gradient(total)


def _scaled(params, index, values):
    return values if params.scales is None else params.scales[index] * values


def _term(recipe, mixtures, prepared, params, options):
    p = mixtures[recipe.under]
    relations = components.relate_all(p, [prepared[name] for name in recipe.densities])
    narrow, overlaps = _unseen(recipe, prepared, relations, params)
    alone = len(recipe.logarithms) == 1
    if relations is None or not options.control_variate:
        integrand = functools.partial(_integrand, recipe)
        return Term(p, integrand, narrow, overlaps, is_logarithm=alone)
    expected = tuple(relation.expected_distances for relation in relations)
    control = Control(expected, functools.partial(_values, recipe))
    integrand = functools.partial(_with_features, recipe)
    return Term(p, integrand, narrow, overlaps, control, alone)


def _unseen(recipe, prepared, relations, params):
    """What points may miss of the integrand: components of each mixture, and what lies between."""
    once = {i: position for position, (i, _) in enumerate(recipe.densities)}
    others = {i: prepared[recipe.densities[position]] for i, position in once.items()}
    mixtures = [other.mixture for other in others.values()]
    log_masses = [_log_masses(recipe, i, other, params) for i, other in others.items()]
    if relations is not None:
        relations = [relations[position] for position in once.values()]
    narrow = spikes.spikes(mixtures, relations, log_masses)
    log_peaks = [other.density.log_peaks for other in others.values()]
    if any(len(log.mixtures) > 1 for log in recipe.logarithms):
        # The blend changes wherever one of its densities matters.
        parts = [params.log_blend[i] + peaks for i, peaks in zip(others, log_peaks, strict=True)]
        log_peaks = [jnp.concatenate(parts)]
    unit = _scaled(params, recipe.index, 1.0)
    return narrow, unseen.overlaps(log_peaks, narrow, unit)


def _log_masses(recipe, index, other: Prepared, params):
    """The logarithm of what each component of a mixture holds of the subtracted density.

    It is known where log p is in the integrand too: then −log of it is all that can be low.
    """
    log_weights = log_softmax(other.mixture.logits)
    signs = {log.sign: log for log in recipe.logarithms}
    has_own = 1 in signs and recipe.under in signs[1].mixtures
    if not (has_own and -1 in signs and index in signs[-1].mixtures):
        return jnp.full_like(log_weights, jnp.inf)
    if len(signs[-1].mixtures) == 1:
        return log_weights
    return params.log_blend[index] + log_weights


def _integrand(recipe, params, x):
    logs = {name: density.evaluate(params.densities[name], x) for name in recipe.densities}
    return _combined(recipe, params, logs), ()


def _with_features(recipe, params, x):
    distances = tuple(
        density.squared_distances(params.densities[name], x) for name in recipe.densities
    )
    return _values(recipe, params, distances), distances


def _values(recipe, params, distances):
    """Values of the integrand from squared distances to the components of each density."""
    logs = {}
    for name, table in zip(recipe.densities, distances, strict=True):
        terms = density.component_table(params.densities[name], table)
        logs[name] = jax.nn.logsumexp(terms, axis=0)
    return _combined(recipe, params, logs)


def _combined(recipe, params, logs):
    """Values of the integrand from the logarithms of each density."""
    # Relative to the sampled density, so that equal mixtures give exactly 0.
    reference = 0.0
    if len(recipe.logarithms) == 2:
        reference = next(logs[name] for name in recipe.densities if name[0] == recipe.under)
    total = jnp.zeros_like(logs[recipe.densities[0]])
    for log in recipe.logarithms:
        relative = [logs[i, log.detached] - reference for i in log.mixtures]
        total += log.sign * _log_blend(relative, params.log_blend)
    return _scaled(params, recipe.index, total)


def _log_blend(logs, log_weights):
    """The logarithm of one density, or of the blend of several."""
    if len(logs) == 1:
        return logs[0]
    return jax.nn.logsumexp(log_weights[:, None] + jnp.stack(logs), axis=0)
