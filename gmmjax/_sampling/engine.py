"""The engine under every estimate: E_p[f] as a sum of blocks of points, with its gradient."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._compile import computed_once
from gmmjax._logs import log_softmax
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation, blocks, control_variates, unseen
from gmmjax._sampling.control_variates import Baseline, Control
from gmmjax._sampling.devices import are_stratified
from gmmjax._sampling.estimate import Replicates
from gmmjax._sampling.settings import Sampling
from gmmjax._sampling.spikes import (
    ManySpikes,
    Spikes,
    most_hidden,
    narrow_modes,
    narrow_modes_of_many,
    narrowest,
)
from gmmjax._sampling.unseen import Overlaps


class Term(NamedTuple):
    """E_p[f]: a mixture, and an integrand `(params, x) -> (values, features)` for points `(D, n)`.

    Values are `(n,)`; features are tables `(M_j, n)`, none without a control. The integrand closes
    over nothing traced.
    """

    mixture: GMM
    integrand: Callable
    spikes: Spikes | ManySpikes  # components that f may show
    overlaps: Sequence[Overlaps] = ()  # of the densities of which f is made
    control: Control | None = None
    is_logarithm: bool = False  # of one density; any other f is small where densities agree


class _Arguments(NamedTuple):
    """What a block of points needs, beside what is static."""

    mixtures: Sequence[GMM]
    params: Any
    baselines: Sequence[Baseline]
    allocations: Sequence[allocation.Allocation]
    shifts: jax.Array  # (R,) of the positions of a replicate, in points
    key: jax.Array


class Begun(NamedTuple):
    """What is known of a sum of expectations before any of its points."""

    arguments: _Arguments
    known: jax.Array  # the exact mean of all that is subtracted
    hidden: jax.Array  # the variance that the replicates cannot show


def begin(key, terms: Sequence[Term], params: Any, sampling: Sampling, fixed_fit: bool) -> Begun:
    """All but the points of Σ_j E_{p_j}[f_j(params, x)].

    With `fixed_fit` how much of a control is subtracted is a constant of differentiation, which
    leaves the gradient unbiased; without, the gradient is that of the returned value.
    """
    mixtures = [term.mixture for term in terms]
    layout = blocks.layout(sampling, mixtures)
    key_points, key_shift = jax.random.split(key)
    baselines = [_baseline(term, params, layout.num_points, fixed_fit) for term in terms]
    known = _mean(mixtures, baselines)
    allocations = [allocation.allocate(g, layout.num_allocated) for g in mixtures]
    shifts = _shifts(key_shift, layout, known.dtype)
    arguments = _Arguments(mixtures, params, baselines, allocations, shifts, key_points)
    hidden = jnp.zeros((), known.dtype)
    for term, subtracted, owned in zip(terms, baselines, allocations, strict=True):
        hidden += _hidden(term, params, subtracted, owned.share, layout.num_points, sampling.points)
    return Begun(arguments, known, hidden)


def add_up(begun: Begun, integrands: tuple[Callable, ...], sampling: Sampling) -> Replicates:
    """The points, block by block: the sum with its independent means."""
    arguments, known, hidden = begun
    layout = blocks.layout(sampling, arguments.mixtures)
    block = functools.partial(_block, integrands, sampling.points, layout)
    total = blocks.accumulate(block, sampling, layout, arguments.mixtures)
    value, means = total(arguments)
    means = layout.by_segment(jax.lax.stop_gradient(known) + means)
    return Replicates(known + value, means, hidden)


# What is looked at without noise never outnumbers the points of the estimate, but for a few.
def looks_at_means(num_points: int, num_components: int) -> bool:
    """Whether an integrand is looked at in all means."""
    return num_components <= max(num_points, control_variates.NUM_POINTS)


def num_looked_at(num_points: int, num_spikes: int) -> int:
    """At how many spikes an integrand is looked at."""
    return min(num_spikes, -(-max(num_points, control_variates.NUM_POINTS) // 4))


def _baseline(term, params, num_points, fixed_fit):
    # f at the means, known without noise, is subtracted: an f that is constant on each component
    # then comes out exact.
    p = term.mixture
    if not looks_at_means(num_points, p.num_components):
        nothing = jnp.zeros_like(p.logits)
        return Baseline(nothing, nothing, ())
    at_means = term.integrand(params, p.means.T)
    return control_variates.baseline(
        p, term.integrand, term.control, params, at_means, num_points, fixed_fit
    )


def _hidden(term, params, subtracted, share, total, points):
    """The variance that the replicates of one term cannot show."""
    p, spikes, params, subtracted, num_points = jax.tree.map(
        jax.lax.stop_gradient, (term.mixture, term.spikes, params, subtracted, share * total)
    )
    if isinstance(spikes, ManySpikes):
        return _hidden_of_many(p, spikes, term.integrand, params, subtracted, num_points, total)
    log_weights, num_modes = log_softmax(p.logits), len(spikes.present)
    count = num_looked_at(total, num_modes)
    chosen = most_hidden(p, num_points, spikes, count)
    residuals = subtracted.residuals(*term.integrand(params, chosen.means.T))
    variance = narrow_modes(log_weights, num_points, chosen, residuals)
    if count < num_modes:  # nothing is known of the others
        residuals = jnp.ones((p.num_components, num_modes), variance.dtype)
    return variance + _hidden_overlaps(p, term, residuals, num_points, points)


def _hidden_overlaps(p, term, residuals, num_points, points):
    """The same of where components of the densities take over from one another."""
    variance = jnp.zeros((), residuals.dtype)
    least = unseen.min_overlaps(p.dim, num_points, term.is_logarithm, are_stratified(points))
    log_weights = log_softmax(p.logits)
    for overlaps in term.overlaps:
        seen = jnp.ones_like(overlaps.relation.shift[..., 0])
        if overlaps.spikes is not None:
            seen = residuals[:, overlaps.spikes]
        variance += unseen.hidden_overlaps(log_weights, num_points, overlaps, seen, least)
    return variance


def _hidden_of_many(p, spikes, integrand, params, subtracted, num_points, total):
    """The same where pairs of components are many: of the narrowest modes alone."""
    variance = jnp.zeros((), p.means.dtype)
    for modes, masses in zip(*spikes, strict=True):
        count = num_looked_at(total, modes.num_components)
        modes, masses = narrowest(modes, masses, -(-count // len(spikes.mixtures)))
        values, _ = integrand(params, modes.means.T)
        variance += narrow_modes_of_many(p, num_points, modes, masses, values, subtracted.constant)
    return variance


def _mean(mixtures, baselines):
    """Σ_j of the exact means of what is subtracted."""
    total = jnp.zeros((), mixtures[0].means.dtype)
    for g, subtracted in zip(mixtures, baselines, strict=True):
        total += jnp.sum(jax.nn.softmax(g.logits) * subtracted.mean)
    return total


def _shifts(key, layout, dtype):
    """By how much the positions of each replicate are shifted, `(R,)`, in points."""
    # Dyadic shares own aligned blocks, so each point sits in the middle of its cell. Otherwise a
    # random shift makes E[n_k] equal to share_k · n.
    shape = (layout.num_replicates,)
    if layout.run_length:
        return jnp.full(shape, 0.5, dtype)
    return jax.random.uniform(key, shape, dtype)


def _block(integrands, points, layout, arguments, index):
    """What one block of points adds to the mean of every replicate."""
    row, start = layout.position(index)
    dtype, dim = arguments.shifts.dtype, arguments.mixtures[0].dim
    rows = row + np.arange(layout.rows, dtype=np.int32)
    z, weight = points(arguments.key, rows, start, layout.columns, dim, dtype)
    z, weight = layout.group(z), layout.group(weight)
    position = _positions(layout, arguments.shifts, row, start)
    total = jnp.zeros_like(weight)
    for g, integrand, subtracted, owned in zip(
        arguments.mixtures, integrands, arguments.baselines, arguments.allocations, strict=True
    ):
        choice = allocation.choose(owned, position)
        found = integrand(arguments.params, allocation.place(choice, g.means, g.scale, z))
        rates = owned.rates(g.logits) / layout.per_replicate
        table = jnp.concatenate(
            [rates[None], subtracted.constant[None], *(slopes.T for slopes in subtracted.slopes)]
        )
        # Its gradient would be computed for every coordinate of every component.
        total += computed_once(row >= 0, _rest, found, allocation.pick(table, choice), weight)
    return layout.scatter(layout.row_sums(total), row)


def _positions(layout, shifts, row, start):
    """Where the first point of each group stands in all that is allocated, in [0, 1)."""
    shift = jax.lax.dynamic_slice(shifts, (row,), (layout.rows,))
    columns = (start + np.arange(layout.columns, dtype=np.int32)).astype(shifts.dtype)
    before = (layout.segments(row) * layout.per_replicate).astype(shifts.dtype)
    return layout.group(columns[None] + (shift + before)[:, None])[:, 0] / layout.num_allocated


def _rest(found, table, weight):
    """The integrand less its control, at groups of points that share a component, weighted."""
    values, features = found
    rate, constant = table[:2, :, None]
    rest = values.reshape(weight.shape) - constant
    slopes = table[2:, :, None]
    for feature in features if len(slopes) else ():
        rates, slopes = slopes[: len(feature)], slopes[len(feature) :]
        rest -= jnp.sum(rates * feature.reshape(len(feature), *weight.shape), axis=0)
    # A rate may be so small that its product with a weight is 0.
    return rate * (weight * rest)
