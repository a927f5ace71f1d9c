"""Mutual information between two blocks of coordinates."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from gmmjax._estimates.recipes import Options
from gmmjax._mixture import density
from gmmjax._mixture.affine import marginal
from gmmjax._mixture.density import Density
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._pairs import components
from gmmjax._sampling import spikes, unseen
from gmmjax._sampling.control_variates import Control
from gmmjax._sampling.engine import Term, add_up, begin
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.settings import Sampling
from gmmjax._sampling.stages import estimate_in_stages
from gmmjax._sampling.unseen import Overlaps


class _Densities(NamedTuple):
    """Of the point, and of either block of it."""

    whole: Density
    block: Density
    rest: Density


class _Problem(NamedTuple):
    """What is static: the coordinates of the block, and what to do with the points."""

    block: tuple[int, ...]
    dim: int
    sampling: Sampling
    options: Options

    @property
    def rest(self):
        """The other coordinates."""
        return tuple(d for d in range(self.dim) if d not in self.block)

    def integrand(self, with_features):
        """The logarithm of the ratio, with what a control needs or without."""
        return functools.partial(_integrand, self.block, self.rest, with_features)


def estimate_block_information(
    key, p: GMM, block: tuple[int, ...], sampling: Sampling, options: Options
) -> Estimate:
    """E_p[log p(x) − log p(x_A) − log p(x_B)] with A a block of coordinates and B the rest."""
    return _estimate((key, (p,)), _Problem(block, p.dim, sampling, options))


def _prepare(arrays, problem):
    """The mixture, and its marginals, about the mean."""
    key, mixtures = arrays
    (p,) = recentred(*mixtures)
    return key, (p, marginal(p, problem.block), marginal(p, problem.rest))


def _begin(prepared, problem):
    key, sides = prepared
    options = problem.options
    # Each logarithm is that of the density that its own argument is drawn from: all three scores
    # have mean zero.
    held = jax.lax.stop_gradient(sides) if options.stick_the_landing else sides
    prepared = [density.prepare(side) for side in held]
    relations, control, overlaps = None, None, ()
    if not components.are_many(sides[0], sides[0]):
        relations = [components.relate(*pair) for pair in zip(sides, prepared, strict=True)]
        # At the means all three agree, and not where their components take over from one another.
        overlaps = tuple(
            Overlaps(side.density.log_peaks, relation, spikes=None)
            for side, relation in zip(prepared, relations, strict=True)
        )
    if options.control_variate and relations is not None:
        expected = tuple(relation.expected_distances for relation in relations)
        control = Control(expected, _values)
    narrow = spikes.spikes(held[:1], relations and relations[:1])
    term = Term(sides[0], problem.integrand(control is not None), narrow, overlaps, control)
    params = _Densities(*(side.density for side in prepared))
    begun = begin(key, [term], params, problem.sampling, options.stick_the_landing)
    return begun._replace(hidden=begun.hidden + unseen.rounding(prepared))


def _end(begun, problem):
    (subtracted,) = begun.arguments.baselines
    integrand = problem.integrand(bool(subtracted.slopes))
    return conclude(add_up(begun, (integrand,), problem.sampling))


_estimate = estimate_in_stages(_prepare, _begin, _end)


def _integrand(block, rest, with_features, params, x):
    parts = (x, x[np.array(block)], x[np.array(rest)])
    if not with_features:
        logs = [density.evaluate(d, part) for d, part in zip(params, parts, strict=True)]
        return logs[0] - logs[1] - logs[2], ()
    distances = tuple(
        density.squared_distances(d, part) for d, part in zip(params, parts, strict=True)
    )
    return _values(params, distances), distances


def _values(params, distances):
    """Values of the integrand from squared distances to the components of each density."""
    tables = [density.component_table(*pair) for pair in zip(params, distances, strict=True)]
    whole, block, rest = (jax.nn.logsumexp(table, axis=0) for table in tables)
    return whole - block - rest
