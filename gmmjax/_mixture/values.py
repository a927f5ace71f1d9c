"""Values that are at hand, refused where they are not those of a mixture.

All of it is NumPy in float64, whatever JAX is set to.
"""

import numpy as np

from gmmjax._validate import warn

ASYMMETRY = 1e-5  # of the largest entry: what rounding may have done to a covariance


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


def _warn_of_other_matrices(name, scale):
    """Warn of a full scale that was hardly meant as lower factors: of covariances, and of upper."""
    if scale.ndim < 3 or not scale.is_fully_addressable:
        return
    lower, upper = np.tril(scale, -1), np.triu(scale, 1)
    if not upper.any() or not np.isfinite(scale).all():
        return
    if (lower == upper.swapaxes(1, 2)).all():
        seen = "symmetric, as covariances are: gmmjax.from_covariances takes those"
    elif not lower.any():
        seen = "upper factors: transpose them"
    else:
        return
    warn(
        f"{name}: expected lower Cholesky factors, got matrices that look {seen}; "
        "what stands above the diagonal is not read"
    )


def refuse(names, given, checked, verdict, singular):
    """Raise for concrete values that no function could use, and warn of those it would misread."""
    _warn_of_other_matrices(names[2], given.scale)
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
            f"{names[2]}: a standard deviation is 0, and there is no density, "
            f"of component {_first_without_density(np.asarray(checked.scale))}"
        )


def _first_without_density(scale):
    pivots = np.diagonal(scale, axis1=1, axis2=2) if scale.ndim == 3 else scale
    return np.argwhere(pivots == 0)[0][0]


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
