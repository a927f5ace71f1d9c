"""Values that are at hand: refused where they are not those of a mixture, and rounded aloud.

All of it is NumPy in float64, whatever JAX is set to.
"""

import numpy as np

from gmmjax._validate import warn

ASYMMETRY = 1e-5  # of the largest entry: what rounding may have done to a covariance
# Of a standard deviation: by how much rounding may move a mean before somebody must hear of it.
MOVED = 1e-3
# By how much, as a part of it, rounding may change the variance along some direction.
CHANGED = 0.01
REMEDY = (
    "switch on jax_enable_x64, or subtract a common origin from the means of all mixtures (and "
    "from points), which changes no divergence"
)


def check_weights(weights):
    """Refuse concrete values that are not those of weights."""
    bad = weights[~(np.isfinite(weights) & (weights >= 0))]
    if bad.size:
        raise ValueError(f"weights: expected finite and non-negative values, got {bad[0]}")
    if not (weights > 0).any():
        raise ValueError(f"weights: all {weights.size} are 0; at least one must be positive")


def log_of_weights(weights):
    """Logarithms of normalised weights, in float64 and log space: none is too small."""
    check_weights(weights)
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    largest = logs.max()
    return logs - (largest + np.log(np.sum(np.exp(logs - largest))))


def of_present(values, weights):
    """The same, with those of the heaviest component where the weight is 0.

    What is absent may hold anything. A leading axis of 1 is shared by all components.
    """
    if len(values) != len(weights):
        return values
    absent = (weights == 0).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(absent, values[np.argmax(weights)], values)


def is_usable(logits, means, scale):
    """Whether all components are there, finite and of no deviation 0, nothing above diagonals."""
    if not all(np.isfinite(leaf).all() for leaf in (logits, means, scale)):
        return False
    if scale.ndim < 3:
        return bool(scale.all())
    pivots = np.diagonal(scale, axis1=1, axis2=2)
    return bool(pivots.all()) and not np.triu(scale, 1).any()


def refuse(names, given, checked, verdict, singular):
    """Raise for concrete values that no function could use, and show them."""
    bad_logits, bad_means, bad_scale, has_zero = verdict
    if bad_logits:
        raise ValueError(
            f"{names[0]}: expected numbers, or −inf for absent components but not for all, "
            f"got {given.logits}"
        )
    if bad_means or bad_scale:
        i = 1 if bad_means else 2
        k = np.argwhere(~np.isfinite(np.asarray(checked[i])))[0][0]
        seen = np.asarray(given[i])[k]
        raise ValueError(f"{names[i]}: expected finite values, got {seen} for component {k}")
    if has_zero and not singular:
        raise ValueError(
            f"{names[2]}: a standard deviation is 0, and there is no density, got {given.scale}"
        )


def check_finite(**arrays):
    """Refuse what is infinite or not a number; the keywords are the arguments' names."""
    for name, value in arrays.items():
        bad = value[~np.isfinite(value)]
        if bad.size:
            raise ValueError(
                f"{name}: expected finite values, got {bad[0]} in an array of shape {value.shape}"
            )


def checked_factor(covariances):
    """Cholesky factors or standard deviations of concrete, positive definite covariances."""
    if covariances.ndim <= 2:
        if not (covariances > 0).all():
            raise ValueError(f"covariances: expected positive variances, got {covariances.min()}")
        return np.sqrt(covariances)
    # By halves, which do not overflow.
    half, other = covariances / 2, covariances.swapaxes(1, 2) / 2
    skew = np.abs(half - other).max(axis=(1, 2))
    size = np.abs(half).max(axis=(1, 2))
    for k in np.flatnonzero(skew > ASYMMETRY * size):
        raise ValueError(
            f"covariances: matrix {k} is not symmetric, |C − Cᵀ| reaches {2 * float(skew[k]):.3g}"
        )
    return np.stack([_cholesky(k, matrix) for k, matrix in enumerate(half + other)])


def _cholesky(k, matrix):
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(matrix)[0]
        raise ValueError(
            f"covariances: matrix {k} is not positive definite, "
            f"its smallest eigenvalue is {smallest:.3g}"
        ) from None


def could_be_tied(covariances):
    """Whether `(D, D)` numbers could be one covariance matrix."""
    if covariances.ndim != 2 or len(covariances) != covariances.shape[1] or len(covariances) == 1:
        return False
    skew, size = np.abs(covariances - covariances.T).max(), np.abs(covariances).max()
    if not np.isfinite(size) or skew > ASYMMETRY * size:
        return False
    return bool((np.linalg.eigvalsh(covariances) > 0).all())


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
