"""The end of a reduction in forward KL: the fixed point to the last digit that is worth a step."""

import jax.numpy as jnp
import numpy as np

from gmmjax._fitting.result import FitResult
from gmmjax._mixture.gmm import GMM, index
from gmmjax._reduction import em, parts
from gmmjax._reduction.cloud import Cloud
from gmmjax._reduction.parts import Parts
from gmmjax._reduction.search import Task
from gmmjax._sampling.estimate import Estimate

# Steps end where three together bring less than this part of KL, far below its error.
MIN_GAIN = 1e-6
NUM_STEPS_LARGE = 30  # where components stand for themselves: a step takes half a second


def on_points(like: GMM, t: Task, found: list[Parts], points: Cloud, num_steps: int) -> FitResult:
    """Bring the first of the mixtures to the end; the loss is filled in by who compares."""
    start = em.batch(found[:1])
    limit = min(num_steps, NUM_STEPS_LARGE) if t.large else num_steps
    run = em.run(start, points, t.ndim, t.floor, em.Stop(limit, MIN_GAIN))
    losses = np.full(num_steps, np.nan)
    losses[: len(run.losses)] = run.losses[:, 0]
    unknown = jnp.full(num_steps, jnp.nan)
    nothing = Estimate(jnp.asarray(jnp.nan), jnp.asarray(jnp.nan))
    return FitResult(
        gmm=parts.to_structure(like, index(run.parts, 0)),
        loss=nothing,
        start=nothing,
        num_steps=jnp.asarray(len(run.losses)),
        num_skipped=jnp.asarray(0),
        converged=jnp.asarray(run.ended),
        losses=jnp.asarray(losses, like.means.dtype),
        stderrs=jnp.zeros(num_steps, like.means.dtype),
        gradient_norms=unknown,
    )
