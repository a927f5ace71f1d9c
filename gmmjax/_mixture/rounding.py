"""What rounding does to values that are at hand, said aloud where it is too much.

All of it is NumPy in float64, whatever JAX is set to.
"""

import numpy as np

from gmmjax._mixture.values import of_present
from gmmjax._validate import warn

# Of a standard deviation: by how much rounding may move a mean before somebody must hear of it.
MOVED = 1e-3
# By how much, as a part of it, rounding may change the variance along some direction.
CHANGED = 0.01
REMEDY = (
    "switch on jax_enable_x64, or subtract a common origin from the means of all mixtures (and "
    "from points), which changes no divergence"
)


def round_to(dtype, means, factor, names=("means", "covariances")):
    """Means and factors of present components in a dtype, aloud where rounding does harm."""
    if dtype == np.float64:
        return means, factor
    with np.errstate(over="ignore", under="ignore"):
        rounded = means.astype(dtype), factor.astype(dtype)
    _check_range(dtype, factor, rounded, names)
    _warn_of_moved_means(dtype, means, factor, rounded[0], names[0])
    _warn_of_lost_variances(dtype, factor, rounded[1], names[1])
    return rounded


def warn_of_rounding(dtype, logits, means, scale, names):
    """Warn where leaves of a mixture in double precision lose what matters in a dtype."""
    logits, means, scale = (np.asarray(leaf, np.float64) for leaf in (logits, means, scale))
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.exp(logits - logits.max())
    means, scale = (of_present(leaf, weights) for leaf in (means, scale))
    scale = np.tril(scale) if scale.ndim > means.ndim else scale
    if np.isfinite(means).all() and np.isfinite(scale).all() and is_regular(scale):
        round_to(dtype, means, scale, names)


def _check_range(dtype, factor, rounded, names):
    """Refuse means and deviations that the dtype cannot hold."""
    lost = [k for k, mean in enumerate(rounded[0]) if not np.isfinite(mean).all()]
    if lost:
        raise ValueError(f"{names[0]}: that of component {lost[0]} is too large for {dtype}")
    deviations = np.abs(_pivots(rounded[1]))
    # What is smaller than normal numbers is 0 on processors that flush it.
    bad = ~np.isfinite(deviations) | (deviations < np.finfo(dtype).tiny)
    bad &= _pivots(factor) != 0
    for k in np.flatnonzero(bad.any(axis=1)):
        seen = _pivots(factor)[k][bad[k]][0]
        raise ValueError(
            f"{names[1]}: a standard deviation of {seen:.3g}, of component {k}, is out of the "
            f"range of {dtype}; switch on jax_enable_x64 or change the unit"
        )


def _warn_of_moved_means(dtype, means, factor, rounded, name):
    moved = rounded - means
    if not moved.any():
        return
    distances = np.linalg.norm(_solve(factor, moved[..., None])[..., 0], axis=1)
    k = int(np.argmax(distances))
    if distances[k] > MOVED:
        warn(
            f"{name}: rounding to {dtype} moves that of component {k} by {distances[k]:.2g} "
            f"standard deviations; {REMEDY}"
        )


def warn_of_moved_image(A, b, means, image):
    """Warn where the means of A x + b, given and found in single precision, are not what they are.

    Those of x are taken as they stand: it is the rounding of A, of b and of their image that moves.
    """
    means, A, b = (np.asarray(leaf, np.float64) for leaf in (means, A, b))
    exact = (means @ A.T if A.ndim == 2 else means * A) + b
    found, factor = (np.asarray(leaf, np.float64) for leaf in image[1:])
    if np.isfinite(found).all() and np.isfinite(factor).all() and is_regular(factor):
        _warn_of_moved_means(image.means.dtype, exact, factor, found, "means of A x + b")


def warn_of_moved_points(name, dtype, x, scale):
    """Warn where rounding moves points `(…, D)` by much of some component's deviation."""
    deviations = np.linalg.norm(scale, axis=2) if scale.ndim == 3 else np.abs(scale)
    x = np.asarray(x)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = x.astype(dtype) - x
    moved = np.abs(moved, out=moved).reshape(-1, x.shape[-1]).max(axis=0, initial=0.0)
    part = np.max(moved / deviations.reshape(len(scale), -1).min(axis=0))
    if part > MOVED:
        warn(
            f"{name}: rounding to {dtype} moves a point by {part:.2g} standard deviations; {REMEDY}"
        )


def _warn_of_lost_variances(dtype, factor, rounded, name):
    """Only matrices can lose one: a deviation is rounded by itself."""
    if factor.ndim < 3 or (rounded == factor).all():
        return
    change = _solve(factor, rounded - factor)
    # The norm of Frobenius is above that of any direction, and cheap.
    for k in np.flatnonzero(np.linalg.norm(change, axis=(1, 2)) > CHANGED / 2):
        ratios = np.linalg.svd(np.eye(change.shape[-1]) + change[k], compute_uv=False) ** 2
        if max(ratios[0] - 1, 1 - ratios[-1]) > CHANGED:
            warn(
                f"{name}: rounding to {dtype} changes the smallest eigenvalue of that of component "
                f"{k} by a factor between {ratios[-1]:.2g} and {ratios[0]:.2g}; "
                "switch on jax_enable_x64, or leave out what is all but constant"
            )
            return


def is_regular(factor):
    """Whether no deviation, or pivot of a factor, is 0."""
    return bool((_pivots(factor) != 0).all())


def _solve(factor, vectors):
    """L⁻¹v for factors of any structure and `(K, D, n)`."""
    if factor.ndim == 3:
        return np.linalg.solve(factor, vectors)
    return vectors / factor.reshape(len(factor), -1, 1)


def _pivots(factor):
    """Deviations, or the diagonal of each factor, `(K or 1, D or 1)`."""
    if factor.ndim == 3:
        return np.diagonal(factor, axis1=1, axis2=2)
    return factor.reshape(len(factor), -1)
