"""Fits to resampled rows: how a mixture could have come out of other rows of its population."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, as_float, float_of, in_dtype
from gmmjax._mixture.structure import is_full, is_tied
from gmmjax._populations import rows
from gmmjax._populations.em import maximise
from gmmjax._populations.fixed_point import has_least_variance, least_variances
from gmmjax._validate import check_count, keyed, warn

# The last step brings less than this to the likelihood of all rows, in nats. What is missing is of
# the order of a hundredth of a standard error.
TOLERANCE = 1e-4
MOST_STEPS = 200
# Refits that run side by side: their tables stay in cache, and none waits for many others.
NUM_TOGETHER = 8


class Refits(NamedTuple):
    """A batch of mixtures, and which of their fits went wrong."""

    gmm: GMM
    unfinished: jax.Array  # (B,) booleans
    collapsed: jax.Array


@keyed
def refits(key, g: GMM, x, *, num_resamples: int = 200) -> GMM:
    r"""Fits to resampled rows: how a mixture could have come out of other rows.

    .. math:: g^*_b = \arg\max_g \sum_i n_{bi} \log g(x_i), \quad
       n_b \sim \mathrm{Multinomial}(N;\, 1/N, \dots, 1/N)

    The nonparametric bootstrap. Every function of a mixture has a sampling distribution: that of
    its values under `jax.vmap`. Each fit is EM from `g`, of rows weighted by how often they were
    drawn, so that nothing is copied. Components keep their places, for each of them moves from
    where it is in `g` to the nearest maximum: there are no labels to switch. For this `g` should be
    a maximum of the likelihood of `x`, as `gmmjax.em` finds it, or near one.

    Args:
      key: a JAX key.
      g: a mixture of K components in D dimensions that was fitted to `x`.
      x: its rows `(N, D)`, of numbers; a data frame stands for its values.
      num_resamples: how many fits, a Python int.

    Returns:
      A batch of mixtures in the structure of `g`: a `GMM` with leading axes `num_resamples`.
      Outside `jit` and `vmap` a warning says how many fits did not converge, and in how many a
      component collapsed onto so few rows that its covariance is that of a floor (see `em`).

    Raises:
      TypeError: `key` is not a key, `g` is not a `GMM`, `x` is a sparse matrix, or `num_resamples`
        is not an int.
      ValueError: shapes disagree, `x` has a row that is not finite, a constant column, or fewer
        rows than components, or `num_resamples` is below 1.

    Reference:
      Efron (1979), "Bootstrap methods: another look at the jackknife"; O'Hagan, Murphy, Scrucca and
      Gormley (2019), "Investigation of parameter uncertainty in clustering using a Gaussian mixture
      model via jackknife, bootstrap and weighted likelihood bootstrap".

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> x = jax.random.normal(jax.random.key(0), (400, 1))
      >>> g = gmmjax.em(x, gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.ones(1))).gmm
      >>> means = gmmjax.refits(jax.random.key(1), g, x).means
      >>> print(means.shape, bool(jnp.std(means) < 0.1))  # about 1/√400
      (200, 1, 1) True
    """
    g = as_float("g", g)
    x = rows.check_rows("x", x, g)
    num_resamples = check_count("num_resamples", num_resamples)
    dtype = float_of(x, g.means)
    g = in_dtype(g, dtype)
    found = refit(key, g, x.astype(dtype), num_resamples)
    warn_of(found, "refits: of g")
    return found.gmm


def warn_of(found: Refits, what: str) -> None:
    """Say how many refits went wrong, where values are concrete."""
    if is_traced(found):
        return
    count = len(found.unfinished)
    if unfinished := int(jnp.sum(found.unfinished)):
        warn(
            f"{what}, {unfinished} of {count} fits to resampled rows had not converged after "
            f"{MOST_STEPS} steps; its components may overlap too much to be told apart",
        )
    if collapsed := int(jnp.sum(found.collapsed)):
        warn(
            f"{what}, {collapsed} of {count} fits to resampled rows had a component collapse onto "
            "a few of them; it may have more components than its rows can tell",
        )


@jax.jit(static_argnums=3)
def refit(key, g: GMM, x: jax.Array, num_resamples: int) -> Refits:
    """Refits of a checked mixture."""
    frame = rows.frame(x, g)
    cloud = rows.cloud(frame, x)
    start = rows.into(frame, g)
    tol = jnp.asarray(TOLERANCE / len(x), x.dtype)

    def one(key):
        weight = rows.in_blocks(_resample(key, len(x), x.dtype), len(cloud.x))
        resampled = cloud._replace(weight=weight)
        run = maximise(start, resampled, tol, MOST_STEPS)
        collapsed = _is_collapsed(run.gmm, len(x), least_variances(run.gmm, resampled))
        return Refits(rows.out_of(frame, run.gmm), run.moving, collapsed)

    keys = jax.random.split(key, num_resamples)
    return jax.lax.map(one, keys, batch_size=NUM_TOGETHER)


def _resample(key, num_rows, dtype):
    """How often each row was drawn, `(N,)`."""
    drawn = jax.random.randint(key, (num_rows,), 0, num_rows)
    return jnp.zeros(num_rows, dtype).at[drawn].add(1)


def _is_collapsed(g, num_rows, least):
    """Whether a component of its own covariance stands on too few rows for one."""
    tied = is_tied(g)
    needed = 0 if tied else g.dim + 1 if is_full(g) else 2
    weights = jax.nn.softmax(g.logits)
    starved = (weights > 0) & (weights * num_rows < needed)
    return jnp.any(starved) | jnp.any(has_least_variance(g, least))
