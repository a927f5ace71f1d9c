"""Maximum likelihood by EM from a start."""

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._fitting.fit import FitResult
from gmmjax._jax import is_traced
from gmmjax._mixture.gmm import GMM, as_float, float_of, in_dtype
from gmmjax._mixture.structure import is_tied
from gmmjax._populations import fixed_point, rows
from gmmjax._populations.fixed_point import Run, has_least_variance, least_variances
from gmmjax._populations.moments import Cloud
from gmmjax._sampling.estimate import Estimate
from gmmjax._validate import check_count, on_any_mesh, warn

MOST_STEPS = 1 << 24  # of each of which a record is kept


@on_any_mesh
def em(x, init: GMM, *, weights=None, num_steps: int = 1000, tol: float = 1e-13) -> FitResult:
    r"""Maximum likelihood from rows of data by EM, from a start.

    .. math:: \max_g \sum_i v_i \log g(x_i)

    Each step takes two of EM, an extrapolation through them, and a third from there, which is kept
    where it loses nothing: a tenth of the steps where components overlap. The result is the local
    maximum that the start leads to, in the structure of `init`: full, diagonal or spherical
    covariances, or one for all components. Components that are absent stay so. Works under `jit`
    and `vmap`: under `vmap` over `weights` all fits share their rows, in products of matrices.

    The likelihood has no maximum: a component that shrinks onto a point makes it infinite. The
    standard deviation of a component along each coordinate, given the coordinates before it, is
    therefore at least a millionth of that of all rows along it. This has no unit and changes no fit
    that does not meet it, while scikit-learn adds `reg_covar` to all variances, whatever the unit
    of x. A fit that meets it says so.

    For starts, and for how many components there are, see scikit-learn, and
    `gmmjax.interop.from_sklearn`.

    Args:
      x: rows `(N, D)`, of numbers; a data frame stands for its values.
      init: the start, such as a fit of scikit-learn.
      weights: `(N,)` how much each row counts, at least 0; all alike by default.
      num_steps: how many steps at most, a Python int.
      tol: a step that lowers the loss by less ends the fit, in nats. By default means and scales
        have six digits; 0 goes on to rounding.

    Returns:
      A `FitResult`: `loss` is the mean negative log-likelihood of a row with its standard error
      over rows, `start` that of `init`, `losses` what it was before each step, `gradient_norms` how
      long the steps were, and `converged` whether `tol` ended the fit. `stderrs` and `num_skipped`
      are 0.

    Raises:
      TypeError: `init` is not a `GMM`, `x` is a sparse matrix, `num_steps` is not an int, or a
        gradient is asked for. The result moves with its rows and not with `init`: for its spread
        see `gmmjax.refits`, and for a loss of x that has a gradient use `gmmjax.log_prob`.
      ValueError: shapes disagree; `x` has a row that is not finite, a constant column, or fewer
        rows than components; `weights` are negative, not finite or all 0; `tol` is negative or no
        number; the density of `init` at the rows is beyond the range of the dtype.

    Warns:
      UserWarning: components have shrunk onto so few rows that their variance is the least there
        is.

    Reference:
      Dempster, Laird and Rubin (1977), "Maximum likelihood from incomplete data via the EM
      algorithm"; Varadhan and Roland (2008), "Simple and globally convergent methods for
      accelerating the convergence of any EM algorithm", scheme S3.

    Example:
      >>> import gmmjax, jax.numpy as jnp
      >>> x = jnp.array([[-2.1], [-1.9], [1.8], [2.0], [2.2]])
      >>> start = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> found = gmmjax.em(x, start)
      >>> print(found.gmm.means.round(3).T, bool(found.converged))
      [[-2.  2.]] True
    """
    init = as_float("init", init)
    x = rows.check_rows("x", x, init)
    dtype = float_of(x, init.means)
    weights = rows.check_row_weights(weights, len(x), dtype)
    rows.check_counted("x", x, weights)
    num_steps = check_count("num_steps", num_steps)
    if num_steps > MOST_STEPS:
        raise ValueError(f"num_steps: expected at most {MOST_STEPS}, got {num_steps}")
    if not is_traced(tol):
        _check_tolerance(tol)
    init = in_dtype(init, dtype)
    arguments = _refuse_gradients((x.astype(dtype), init, weights))
    found, shrunk = _em(*arguments, jnp.asarray(tol, dtype), num_steps)
    if is_traced(found):
        return found
    if not np.isfinite([found.start.value, found.loss.value]).all():
        raise ValueError(
            f"init: the mean of its log-density over the rows is {-found.start.value} in {dtype}, "
            f"and {-found.loss.value} after EM; start nearer to the rows, and about as wide"
        )
    if np.any(shrunk):
        warn(
            f"em: components {np.flatnonzero(shrunk).tolist()} have shrunk onto so few rows that "
            "their deviations are the least there are, a millionth of those of all rows; start "
            "with fewer components, or from another place"
        )
    return found


def _check_tolerance(tol):
    given = np.asarray(tol)
    if given.shape != () or given.dtype.kind not in "fiu" or not given >= 0:
        raise ValueError(f"tol: expected a number of at least 0, got {tol!r}")


@jax.custom_jvp
def _refuse_gradients(arguments):
    return arguments


@_refuse_gradients.defjvp
def _refused(*_):
    raise TypeError(
        "em: has no gradient, for it iterates until it stops; take its result as a constant with "
        "jax.lax.stop_gradient(x), minimise -mean(gmmjax.log_prob(g, x)) by gradient with "
        "gmmjax.fit, or see gmmjax.refits for how the result moves with its rows"
    )


@jax.jit(static_argnums=4)
def _em(x, init, weights, tol, num_steps):
    x = rows.without_absent(x, weights)
    frame = rows.frame(x, init)
    cloud = rows.cloud(frame, x)
    cloud = cloud._replace(weight=rows.in_blocks(weights, len(cloud.x)))
    start = rows.into(frame, init)
    run = maximise(start, cloud, tol, num_steps, num_steps)
    found = rows.out_of(frame, run.gmm)
    volume = jnp.sum(jnp.log(frame.size))
    least = least_variances(run.gmm, cloud)
    shrunk = has_least_variance(run.gmm, least) & (run.gmm.logits > -jnp.inf)
    result = FitResult(
        gmm=_absent_as_before(found, init),
        loss=_loss(run.gmm, cloud, volume),
        start=_loss(start, cloud, volume),
        num_steps=run.num_steps,
        num_skipped=jnp.zeros((), int),
        converged=~run.moving,
        losses=run.record.loss + volume,
        stderrs=jnp.zeros_like(run.record.loss) * run.record.loss,
        gradient_norms=run.record.length,
    )
    return result, shrunk


def maximise(start: GMM, c: Cloud, tol, num_steps, num_records: int = 1) -> Run:
    """EM in the frame of the rows."""
    # Log-densities are of the order of the dimension there.
    rounding = 4 * jnp.finfo(c.x.dtype).eps * start.dim
    return fixed_point.run(start, c, jnp.maximum(tol, rounding), num_steps, num_records)


def _absent_as_before(g, init):
    """Components that were absent, to the bit."""
    absent = jnp.isneginf(init.logits)
    means = jnp.where(absent[:, None], init.means, g.means)
    if is_tied(g):
        return g._replace(means=means)
    absent = absent.reshape(-1, *[1] * (g.scale.ndim - 1))
    return GMM(g.logits, means, jnp.where(absent, init.scale, g.scale))


def _loss(g, c, volume):
    """The mean of −log g over weighted rows, with its standard error."""
    losses = volume - rows.log_likelihoods(g, c)
    share = c.weight / jnp.sum(c.weight)
    value = jnp.vdot(share, losses)
    count = jnp.sum(share > 0)
    variance = jnp.sum(share**2 * (losses - value) ** 2) * count / (count - 1)
    return Estimate(value, jnp.sqrt(variance))
