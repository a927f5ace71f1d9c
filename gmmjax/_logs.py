"""Estimates of Σ_j E_{p_j}[Σ_i ± log density_i]: what divergences and entropies of Shannon's kind have in common."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax import _blocks, _controls, _density, _gaussian, _linalg, _unseen
from gmmjax._estimate import Estimate, Term, carried_by_few, replicates, standard_error
from gmmjax._gmm import GMM, recentred

BLEND = -1  # stands for the density Σ_l b_l p_l of all mixtures


class Share(NamedTuple):
    """scale · E_{p_j}[Σ_i sign_i log density_i], for densities named by the position of their mixture."""

    sampled: int
    signs: tuple[tuple[int, int], ...]


class Plan(NamedTuple):
    """What is known of the integrand of one share before any number is. Densities go by (mixture, landed)."""

    sampled: int
    parts: tuple[tuple[int, tuple[int, ...], bool], ...]  # each logarithm as (sign, mixtures that it is of, landed)
    names: tuple[tuple[int, bool], ...]  # of the densities, as their components stand one after another


class Logs(NamedTuple):
    """What the integrand of one share needs, computed once, for the M components of all densities."""

    scale: jax.Array
    log_blend: jax.Array  # (L,)
    densities: _density.Precision


class Options(NamedTuple):
    """Static under `jit`."""

    stick_the_landing: bool
    control_variate: bool


@functools.partial(jax.jit, static_argnums=(2, 5, 6))
def estimate_logs(
    key, mixtures: Sequence[GMM], shares: tuple[Share, ...], scales, blend, sampling: _blocks.Sampling, options: Options
) -> Estimate:
    """Σ_j scale_j E_{p_j}[Σ_i sign_ji log density_i], in nats; `scales` belong to the shares, `blend` to the mixtures.

    A mixture's score has mean zero under itself, and sticking the landing leaves it out of the gradient: in the
    logarithm of the sampled mixture, and in that of the blend where all mixtures together sample it.
    """
    dtype = mixtures[0].means.dtype
    mixtures = recentred(*mixtures)
    log_blend = jnp.log(jnp.asarray(blend, dtype))
    plans = [_plan(share, mixtures, options.stick_the_landing, len(shares) == len(mixtures)) for share in shares]
    used = {name: _landed(mixtures[name[0]], name[1]) for plan in plans for name in plan.names}
    inverses = _linalg.inverse_scales([g.scale for g in used.values()], [g.means for g in used.values()])
    inverses = dict(zip(used, inverses, strict=True))
    pick = lambda table, names: [table[name] for name in names]
    densities = {names: _density.precision(pick(used, names), pick(inverses, names)) for _, _, names in plans}
    terms, params = [], []
    for i, plan in enumerate(plans):
        logs = Logs(jnp.asarray(scales[i], dtype), log_blend, densities[plan.names])
        p = mixtures[plan.sampled]
        relations = {name: _gaussian.relate(p, used[name], inverses[name]) for name in plan.names}
        each = list({j: (j, landed) for j, landed in plan.names}.values())
        spikes = _unseen.spikes(pick(used, each), pick(relations, each))
        integrand, of_distances = (
            lambda params, x, f=f, i=i, plan=plan: f(params[i], x, plan) for f in (_integrand, _values)
        )
        expected = jnp.concatenate([relations[name].expected_distances for name in plan.names], axis=1)
        control = _controls.Control(expected, of_distances) if options.control_variate else None
        terms.append(Term(p, integrand, spikes, control))
        params.append(logs)
    found = replicates(key, terms, params, sampling, options.stick_the_landing)
    stderr = standard_error(found)
    if all(BLEND in dict(share.signs) for share in shares):
        ceilings = [-jnp.asarray(scales[i], dtype) * log_blend[share.sampled] for i, share in enumerate(shares)]
        ceiling = jax.lax.stop_gradient(functools.reduce(jnp.add, ceilings))
        stderr = _with_unseen(stderr, ceiling, found.means, sampling.num_samples)
    return Estimate(found.value, stderr)


def _with_unseen(stderr: jax.Array, ceiling: jax.Array, means: jax.Array, num_samples: int) -> jax.Array:
    """The standard error of a divergence from a blend, which is at most −Σ_j scale_j log b_j.

    Where few points carry what is missing to that ceiling, others like them may not have been drawn at all, and the
    spread of the replicates does not know of them: one such point is added.
    """
    rare = carried_by_few(ceiling - means)
    return jnp.where(rare, jnp.hypot(stderr, ceiling / num_samples), stderr)


def _plan(share, mixtures, stick_the_landing, sampled_by_all):
    count = len(mixtures)
    landed = {share.sampled, BLEND} if sampled_by_all and count > 1 else {share.sampled}
    members = lambda i: tuple(range(count)) if i == BLEND else (i,)
    parts = tuple((sign, members(i), stick_the_landing and i in landed) for i, sign in share.signs)
    names = tuple(sorted({(i, landed) for _, members, landed in parts for i in members}))
    return Plan(share.sampled, parts, names)


def _landed(g, landed):
    return jax.tree.map(jax.lax.stop_gradient, g) if landed else g


def _integrand(logs, x, plan):
    distances = _density.squared_distances(logs.densities, x)
    return _values(logs, distances, plan), distances


def _values(logs, distances, plan):
    """Of the integrand, at points with these squared distances to all components."""
    tables = _density.component_tables(logs.densities, distances)
    densities = {name: jax.nn.logsumexp(table, axis=0) for name, table in zip(plan.names, tables, strict=True)}
    balanced = sum(sign for sign, _, _ in plan.parts) == 0
    # Relative to the sampled density, so that equal mixtures give exactly 0.
    reference = densities[next(name for name in densities if name[0] == plan.sampled)] if balanced else 0.0
    values = jnp.zeros(distances.shape[1], distances.dtype)
    for sign, members, landed in plan.parts:
        relative = [densities[i, landed] - reference for i in members]
        if len(members) > 1:
            relative = [jax.nn.logsumexp(logs.log_blend[:, None] + jnp.stack(relative), axis=0)]
        values += sign * relative[0]
    return logs.scale * values
