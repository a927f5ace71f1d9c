"""Mutual information between two blocks of coordinates."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from gmmjax._compile import WIDE, jit_with
from gmmjax._estimates.recipes import Options
from gmmjax._mixture import density
from gmmjax._mixture.affine import marginal
from gmmjax._mixture.density import Density
from gmmjax._mixture.gmm import GMM
from gmmjax._mixture.moments import recentred
from gmmjax._pairs import components
from gmmjax._sampling import spikes, unseen
from gmmjax._sampling.control_variates import Control
from gmmjax._sampling.engine import Term, replicates
from gmmjax._sampling.estimate import Estimate, conclude
from gmmjax._sampling.settings import Sampling


class _Densities(NamedTuple):
    """Of the point, and of either block of it."""

    whole: Density
    block: Density
    rest: Density


@jit_with(WIDE, static_argnums=(2, 3, 4))
def estimate_block_information(
    key, p: GMM, block: tuple[int, ...], sampling: Sampling, options: Options
) -> Estimate:
    """E_p[log p(x) − log p(x_A) − log p(x_B)] with A a block of coordinates and B the rest."""
    (p,) = recentred(p)
    rest = tuple(d for d in range(p.dim) if d not in block)
    sides = [p, marginal(p, block), marginal(p, rest)]
    # Each logarithm is that of the density that its own argument is drawn from: all three scores
    # have mean zero.
    held = jax.lax.stop_gradient(sides) if options.stick_the_landing else sides
    prepared = [density.prepare(side) for side in held]
    relations = None
    if not components.are_many(p, p):
        relations = [components.relate(*pair) for pair in zip(sides, prepared, strict=True)]
    control = None
    if options.control_variate and relations is not None:
        expected = tuple(relation.expected_distances for relation in relations)
        control = Control(expected, _values)
    integrand = functools.partial(_integrand, block, rest, control is not None)
    narrow = spikes.spikes(held[:1], relations and relations[:1])
    term = Term(p, integrand, narrow, control)
    params = _Densities(*(side.density for side in prepared))
    found = replicates(key, [term], params, sampling, options.stick_the_landing)
    return conclude(found, unseen.rounding(prepared))


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
