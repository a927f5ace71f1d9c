"""Estimates of Σ_j E_{p_j}[Σ_i ± log density_i]: what divergences and entropies of Shannon's kind
have in common.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._mixture import components, density, linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._sampling import control_variates, settings, unseen
from gmmjax._sampling.engine import Term, replicates
from gmmjax._sampling.estimate import Estimate, carried_by_few, standard_error

BLEND = -1  # stands for the density Σ_l b_l p_l of all mixtures


class Share(NamedTuple):
    """scale · E_{p_j}[Σ_i sign_i log density_i], for densities named by the position of their
    mixture.
    """

    sampled: int
    signs: tuple[tuple[int, int], ...]


class Plan(NamedTuple):
    """What is known of the integrand of one share before any number is. Densities go by (mixture,
    landed).
    """

    place: int  # among the shares
    sampled: int
    # each logarithm as (sign, mixtures that it is of, landed)
    parts: tuple[tuple[int, tuple[int, ...], bool], ...]
    # of the densities, as their components stand one after another
    names: tuple[tuple[int, bool], ...]


class Logs(NamedTuple):
    """What the integrands need, computed once."""

    scales: Sequence[jax.Array]  # one of each share
    log_blend: jax.Array  # (L,)
    densities: dict[tuple[int, bool], density.Precision]


class Options(NamedTuple):
    """Static under `jit`."""

    stick_the_landing: bool
    control_variate: bool


@functools.partial(jax.jit, static_argnums=(2, 5, 6))
def estimate_logs(
    key,
    mixtures: Sequence[GMM],
    shares: tuple[Share, ...],
    scales,
    blend,
    sampling: settings.Sampling,
    options: Options,
) -> Estimate:
    """Σ_j scale_j E_{p_j}[Σ_i sign_ji log density_i], in nats; `scales` belong to the shares,
    `blend` to the mixtures.

    A mixture's score has mean zero under itself, and sticking the landing leaves it out of the
    gradient: in the logarithm of the sampled mixture, and in that of the blend where all mixtures
    together sample it.
    """
    dtype = mixtures[0].means.dtype
    mixtures = recentred(*mixtures)
    plan = functools.partial(
        _plan, len(mixtures), options.stick_the_landing, len(shares) == len(mixtures)
    )
    plans = [plan(place, share) for place, share in enumerate(shares)]
    used = {name: _landed(mixtures[name[0]], name[1]) for plan in plans for name in plan.names}
    # One by one: what is of one mixture alone is then shared by all estimates that `vmap` makes
    # with it.
    inverses = {name: linalg.inverse_scale(g.scale, g.means) for name, g in used.items()}
    densities = {name: density.precision(g, inverses[name]) for name, g in used.items()}
    logs = Logs(
        [jnp.asarray(c, dtype) for c in scales], jnp.log(jnp.asarray(blend, dtype)), densities
    )
    terms = [
        _term(plan, mixtures[plan.sampled], used, inverses, options.control_variate)
        for plan in plans
    ]
    found = replicates(key, terms, logs, sampling, options.stick_the_landing)
    stderr = standard_error(found)
    if all(BLEND in dict(share.signs) for share in shares):
        ceilings = [
            -c * logs.log_blend[share.sampled] for c, share in zip(logs.scales, shares, strict=True)
        ]
        ceiling = jax.lax.stop_gradient(functools.reduce(jnp.add, ceilings))
        stderr = _with_unseen(stderr, ceiling, found.means, sampling.num_samples)
    return Estimate(found.value, stderr)


def _with_unseen(
    stderr: jax.Array, ceiling: jax.Array, means: jax.Array, num_samples: int
) -> jax.Array:
    """The standard error of a divergence from a blend, which is at most −Σ_j scale_j log b_j.

    Where few points carry what is missing to that ceiling, others like them may not have been drawn
    at all, and the spread of the replicates does not know of them: one such point is added.
    """
    rare = carried_by_few(ceiling - means)
    return jnp.where(rare, jnp.hypot(stderr, ceiling / num_samples), stderr)


def _plan(count, stick_the_landing, sampled_by_all, place, share):
    landed = {share.sampled, BLEND} if sampled_by_all and count > 1 else {share.sampled}
    members = lambda i: tuple(range(count)) if i == BLEND else (i,)
    parts = tuple((sign, members(i), stick_the_landing and i in landed) for i, sign in share.signs)
    names = tuple(sorted({(i, landed) for _, members, landed in parts for i in members}))
    return Plan(place, share.sampled, parts, names)


def _landed(g, landed):
    return jax.tree.map(jax.lax.stop_gradient, g) if landed else g


def _term(plan, p, used, inverses, control_variate):
    relations = {name: components.relate(p, used[name], inverses[name]) for name in plan.names}
    each = {j: (j, landed) for j, landed in plan.names}.values()
    spikes = unseen.spikes([used[name] for name in each], [relations[name] for name in each])
    expected = tuple(relations[name].expected_distances for name in plan.names)
    control = (
        control_variates.Control(expected, functools.partial(_values, plan))
        if control_variate
        else None
    )
    return Term(p, functools.partial(_integrand, plan, control_variate), spikes, control)


def _integrand(plan, control_variate, logs, x):
    distances = tuple(density.squared_distances(logs.densities[name], x) for name in plan.names)
    return _values(plan, logs, distances), distances if control_variate else ()


def _values(plan, logs, distances):
    """Of the integrand, at points with these squared distances to the components of each
    density.
    """
    tables = map(density.component_table, [logs.densities[name] for name in plan.names], distances)
    densities = {
        name: jax.nn.logsumexp(table, axis=0)
        for name, table in zip(plan.names, tables, strict=True)
    }
    balanced = sum(sign for sign, _, _ in plan.parts) == 0
    # Relative to the sampled density, so that equal mixtures give exactly 0.
    reference = (
        densities[next(name for name in densities if name[0] == plan.sampled)] if balanced else 0.0
    )
    values = jnp.zeros_like(distances[0][0])
    for sign, members, landed in plan.parts:
        relative = [densities[i, landed] - reference for i in members]
        if len(members) > 1:
            relative = [jax.nn.logsumexp(logs.log_blend[:, None] + jnp.stack(relative), axis=0)]
        values += sign * relative[0]
    return logs.scales[plan.place] * values
