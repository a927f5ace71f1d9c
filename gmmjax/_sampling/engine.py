"""The engine under every estimate: E_p[f] as a sum of blocks of points, with its gradient."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture.components import Relation
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation, blocks, control_variates, unseen
from gmmjax._sampling.control_variates import Baseline, Control
from gmmjax._sampling.estimate import Replicates
from gmmjax._sampling.settings import Sampling
from gmmjax._sampling.unseen import Spikes


class Term(NamedTuple):
    """E_p[f]: a mixture, and an integrand `(params, x) -> (values, features)` for points `(D, n)`.

    Values are `(n,)`; features are tables `(M_j, n)`, none without a control. The integrand closes
    over nothing traced.
    """

    mixture: GMM
    integrand: Callable
    spikes: Spikes  # components that f may show
    control: Control | None = None
    own: Relation | None = None  # of the mixture to itself where f is −log of it


class _Probe(NamedTuple):
    """Values and features of an integrand without noise: at the means, and at its spikes."""

    at_means: Any
    at_spikes: Any


class _Arguments(NamedTuple):
    """What a block of points needs, beside what is static."""

    mixtures: Sequence[GMM]
    params: Any
    baselines: Sequence[Baseline]
    allocations: Sequence[allocation.Allocation]
    shifts: jax.Array  # (R,) of the positions of a replicate, in points
    key: jax.Array


def replicates(
    key, terms: Sequence[Term], params: Any, sampling: Sampling, fixed_fit: bool = True
) -> Replicates:
    """Σ_j E_{p_j}[f_j(params, x)] with its independent means.

    With `fixed_fit` how much of a control is subtracted is a constant of differentiation, which
    leaves the gradient unbiased; without, the gradient is that of the returned value.
    """
    mixtures = [term.mixture for term in terms]
    layout = blocks.layout(sampling, mixtures)
    key_points, key_shift = jax.random.split(key)
    # f at the means, known without noise, is subtracted: an f that is constant on each component
    # then comes out exact.
    probes = [_probe(term, params) for term in terms]
    baselines = [_baseline(*pair, params, fixed_fit) for pair in zip(terms, probes, strict=True)]
    known = _mean(mixtures, baselines)
    allocations = [allocation.allocate(g, layout.per_replicate) for g in mixtures]
    shifts = _shifts(key_shift, layout, known.dtype)
    arguments = _Arguments(mixtures, params, baselines, allocations, shifts, key_points)
    integrands = tuple(term.integrand for term in terms)
    block = functools.partial(_block, integrands, sampling.points, layout)
    total = blocks.accumulate(block, layout.num_blocks, (layout.num_replicates,), known.dtype)
    value, means = total(arguments)
    hidden = jnp.zeros((), known.dtype)
    for term, probe, subtracted, owned in zip(terms, probes, baselines, allocations, strict=True):
        num_points = owned.share * layout.num_replicates * layout.per_replicate
        residuals = subtracted.residuals(*probe.at_spikes)
        hidden += unseen.narrow_modes(term.mixture, num_points, term.spikes, residuals)
        if term.own is not None:
            hidden += unseen.hidden_overlaps(term.mixture, num_points, term.own)
    return Replicates(known + value, jax.lax.stop_gradient(known) + means, hidden)


def _probe(term, params):
    count = term.mixture.num_components
    places = jnp.concatenate([term.mixture.means, term.spikes.means]).T
    found = term.integrand(params, places)
    return _Probe(
        jax.tree.map(lambda table: table[..., :count], found),
        jax.tree.map(lambda table: table[..., count:], found),
    )


def _baseline(term, probe, params, fixed_fit):
    return control_variates.baseline(
        term.mixture, term.integrand, term.control, params, probe.at_means, fixed_fit
    )


def _mean(mixtures, baselines):
    """Σ_j of the exact means of what is subtracted."""
    total = jnp.zeros((), mixtures[0].means.dtype)
    for g, subtracted in zip(mixtures, baselines, strict=True):
        total += jnp.vdot(jax.nn.softmax(g.logits), subtracted.mean)
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
        table = allocation.pick(jnp.stack([rates, subtracted.constant]), choice)
        rate, constant = table[:, :, None]
        total += rate * weight * _rest(found, constant, subtracted.slopes, choice)
    return layout.scatter(layout.row_sums(total), row)


def _positions(layout, shifts, row, start):
    """Where the first point of each group stands in its replicate, in [0, 1)."""
    shift = jax.lax.dynamic_slice(shifts, (row,), (layout.rows,))
    columns = (start + np.arange(layout.columns, dtype=np.int32)).astype(shifts.dtype)
    return layout.group(columns[None] + shift[:, None])[:, 0] / layout.per_replicate


def _rest(found, constant, slopes, choice):
    """The integrand less its control, at groups of points that share a component."""
    values, features = found
    groups = (choice.shape[1], -1)
    rest = values.reshape(groups) - constant
    for rates, table in zip(slopes, features, strict=True):
        rates = allocation.pick(rates.T, choice)[:, :, None]
        rest -= jnp.sum(rates * table.reshape(len(table), *groups), axis=0)
    return rest
