"""Estimates of Σ_j E_{p_j}[Σ_i ± log density_i]: what divergences and entropies of Shannon's kind have in common."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax import _blocks, _controls, _density, _gaussian, _linalg
from gmmjax._estimate import Estimate, Term, carried_by_few, replicates, standard_error
from gmmjax._gmm import GMM, recentred

BLEND = -1  # stands for the density Σ_l b_l p_l of all mixtures


class Share(NamedTuple):
    """scale · E_{p_j}[Σ_i sign_i log density_i], for densities named by the position of their mixture."""

    sampled: int
    signs: tuple[tuple[int, int], ...]


class Logs(NamedTuple):
    """What the integrand of one share needs, computed once. Dictionaries go by (mixture, landed)."""

    scale: jax.Array
    log_blend: jax.Array  # (L,)
    densities: dict[tuple[int, bool], _density.Precision]
    slopes: dict[tuple[int, bool], jax.Array]  # (K, K_l): the control is −½ Σ slopes · squared distances + centre
    centre: jax.Array  # (K,)


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
    terms, params = [], []
    for i, share in enumerate(shares):
        parts = _parts(share, len(mixtures), options.stick_the_landing, len(shares) == len(mixtures))
        params.append(_prepare(mixtures, share, parts, jnp.asarray(scales[i], dtype), log_blend, options))
        integrand = lambda params, x, i=i, share=share, parts=parts: _integrand(params[i], x, share, parts)
        terms.append(Term(mixtures[share.sampled], integrand, options.control_variate))
    found = replicates(key, terms, params, sampling, options.stick_the_landing, spikes=mixtures)
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


def _parts(share, count, stick_the_landing, sampled_by_all):
    """Each logarithm as (sign, mixtures that it is of, landed)."""
    landed = {share.sampled, BLEND} if sampled_by_all and count > 1 else {share.sampled}
    members = lambda i: tuple(range(count)) if i == BLEND else (i,)
    return [(sign, members(i), stick_the_landing and i in landed) for i, sign in share.signs]


def _prepare(mixtures, share, parts, scale, log_blend, options):
    stopped = [jax.tree.map(jax.lax.stop_gradient, g) for g in mixtures]
    used = {(i, landed): (stopped if landed else mixtures)[i] for _, members, landed in parts for i in members}
    densities = {name: _density.precision(g) for name, g in used.items()}
    p = mixtures[share.sampled]
    slopes, centres = {}, [jnp.zeros(p.num_components, p.means.dtype)]
    if options.control_variate:
        distances = {name: _gaussian.expected_distances(p, g, densities[name].inverse) for name, g in used.items()}
        expected_logs = {name: densities[name].log_peaks[None] - 0.5 * distances[name] for name in used}
        slopes = {name: jnp.zeros((p.num_components, g.num_components), p.means.dtype) for name, g in used.items()}
        for sign, members, landed in parts:
            among = [(i, landed) for i in members]
            offsets = log_blend if len(members) > 1 else jnp.zeros_like(log_blend)
            found = _controls.responsibilities([expected_logs[name] + offsets[name[0]] for name in among])
            for name, share_of in zip(among, found, strict=True):
                slopes[name] += sign * (jax.lax.stop_gradient(share_of) if options.stick_the_landing else share_of)
        centres = [0.5 * jnp.sum(slopes[name] * distances[name], axis=1) for name in used]
    return Logs(scale, log_blend, densities, slopes, functools.reduce(jnp.add, centres))


def _integrand(logs, x, share, parts):
    distances = {name: _linalg.squared_distances(d.inverse, d.means, x) for name, d in logs.densities.items()}
    tables = {name: d.log_peaks[:, None] - 0.5 * distances[name] for name, d in logs.densities.items()}
    densities = {name: jax.nn.logsumexp(table, axis=0) for name, table in tables.items()}
    balanced = sum(sign for sign, _, _ in parts) == 0
    # Relative to the sampled density, so that equal mixtures give exactly 0.
    reference = densities[next(name for name in densities if name[0] == share.sampled)] if balanced else 0.0
    values = jnp.zeros(x.shape[1], x.dtype)
    for sign, members, landed in parts:
        relative = [densities[i, landed] - reference for i in members]
        if len(members) > 1:
            relative = [jax.nn.logsumexp(logs.log_blend[:, None] + jnp.stack(relative), axis=0)]
        values += sign * relative[0]
    if not logs.slopes:
        return logs.scale * values, None
    control = sum(jnp.matmul(slope, distances[name], precision=_linalg.HIGHEST) for name, slope in logs.slopes.items())
    return logs.scale * values, logs.scale * (logs.centre[:, None] - 0.5 * control)
