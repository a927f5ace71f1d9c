"""The engine under every estimate: E_p[f] as a sum of blocks, with its gradient and its standard
error.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._mixture import linalg
from gmmjax._mixture.gmm import GMM
from gmmjax._sampling import allocation, blocks, control_variates, unseen
from gmmjax._sampling.control_variates import Control
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


def replicates(
    key, terms: Sequence[Term], params: Any, sampling: Sampling, fixed_fit: bool = True
) -> Replicates:
    """Σ_j E_{p_j}[f_j(params, x)] with its independent means.

    With `fixed_fit` how much of a control is subtracted is a constant of differentiation, which
    leaves the gradient unbiased; without, the gradient is that of the returned value.
    """
    mixtures, integrands, _, _ = zip(*terms, strict=True)
    layout = blocks.layout(sampling, mixtures)
    dtype, dim, n, shape = (
        mixtures[0].means.dtype,
        mixtures[0].dim,
        layout.per_replicate,
        (layout.replicates,),
    )
    key_points, key_shift = jax.random.split(key)
    # f at the means, known without noise, is taken out of what is averaged: weights then cost
    # nothing where f is flat, and a function that is constant on each component comes out exact.
    probes = [
        t.integrand(params, jnp.concatenate([t.mixture.means, t.spikes.means]).T) for t in terms
    ]
    baselines = [
        _baseline(t, probe, params, fixed_fit) for t, probe in zip(terms, probes, strict=True)
    ]
    known = sum(
        jnp.vdot(jax.nn.softmax(g.logits), b.level)
        for g, b in zip(mixtures, baselines, strict=True)
    )

    def block(arguments, index):
        """What one block adds to the mean of every replicate."""
        mixtures, params, baselines, allocations, shifts, key = arguments
        row, start = layout.position(index)
        rows = row + np.arange(layout.rows, dtype=np.int32)
        z, weight = map(
            layout.groups, sampling.points(key, rows, start, layout.columns, dim, dtype)
        )
        shift = jax.lax.dynamic_slice(shifts, (row,), (layout.rows,))
        places = (start + np.arange(layout.columns, dtype=np.int32)).astype(dtype)[None] + shift[
            :, None
        ]
        first = layout.groups(places)[:, 0] / n
        total = jnp.zeros_like(weight)
        for g, f, known, owned in zip(mixtures, integrands, baselines, allocations, strict=True):
            choice = allocation.choose(owned, first)
            values, features = f(params, allocation.place(choice, g.means, g.scale, z))
            rate, constant = allocation.pick(
                jnp.stack([_rates(g, owned, n), known.constant]), choice
            )[:, :, None]
            rest = values.reshape(weight.shape) - constant
            for slopes, table in zip(known.slopes, features, strict=True):
                slopes = allocation.pick(slopes.T, choice)[:, :, None]
                rest -= jnp.sum(slopes * table.reshape(-1, *weight.shape), axis=0)
            total += rate * weight * rest
        return layout.all_rows(layout.row_sums(total), row)

    # With whole powers of two per component any point may stand anywhere; otherwise a common shift
    # of the positions makes each component's expected number of points exact.
    shifts = (
        jnp.full(shape, 0.5, dtype) if layout.owned else jax.random.uniform(key_shift, shape, dtype)
    )
    allocations = [allocation.allocate(g, n) for g in mixtures]
    arguments = (mixtures, params, baselines, allocations, shifts, key_points)
    value, means = blocks.accumulate(block, layout.num_blocks, shape, dtype)(arguments)
    missed = jnp.zeros((), dtype)
    for (g, _, spikes, _), (values, features), b, a in zip(
        terms, probes, baselines, allocations, strict=True
    ):
        # What would be averaged at the means of the spikes, as points of each component.
        residuals = values[None, g.num_components :] - b.constant[:, None]
        for slopes, table in zip(b.slopes, features, strict=True):
            residuals -= linalg.matmul(slopes, table[:, g.num_components :])
        points = (a.upper - a.lower) * layout.replicates * n
        missed += unseen.variance(g, points, spikes, residuals)
    return Replicates(known + value, jax.lax.stop_gradient(known) + means, missed)


def _baseline(term, probe, params, fixed_fit):
    at_means = jax.tree.map(lambda table: table[..., : term.mixture.num_components], probe)
    return control_variates.baseline(
        term.mixture, term.integrand, term.control, params, at_means, fixed_fit
    )


def _rates(g, owned, num_points):
    """What a point of component k counts for in its replicate's mean."""
    share = owned.upper - owned.lower
    return jax.nn.softmax(g.logits) / (share + (share == 0)) / num_points  # absent: 0 / 1
