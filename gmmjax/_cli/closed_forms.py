"""Closed forms in NumPy, where compiling them would take longer than a thousand of them."""

import numpy as np

from gmmjax._mixture.gmm import GMM

MOST_NUMBERS = 1 << 24  # of a table; larger ones are worth a program


def fits(p: GMM, q: GMM) -> bool:
    """Whether tables of the components of two mixtures are small."""
    count = max(p.num_components, q.num_components)
    return count**2 * p.dim**2 <= MOST_NUMBERS


def ise_and_cauchy_schwarz(p: GMM, q: GMM) -> tuple[np.ndarray, np.ndarray]:
    """`gmmjax.ise` and `gmmjax.cauchy_schwarz_divergence` of two mixtures."""
    tables = [_log_terms(a, b) for a, b in ((p, p), (p, q), (q, q))]
    unit = max(tables[0].max(), tables[2].max())
    pp, pq, qq = (np.exp(table - unit).sum() for table in tables)
    # (2π)^(D/2) is left out of all terms; in a quotient of them it cancels.
    squared_error = (pp + qq - 2 * pq) * np.exp(unit - 0.5 * p.dim * np.log(2 * np.pi))
    log_pp, log_pq, log_qq = (_log_sum(table) for table in tables)
    return np.asarray(squared_error), np.asarray(0.5 * (log_pp + log_qq) - log_pq)


def _log_terms(p, q):
    """Log (2π)^(D/2) w_a v_b ∫ p_a q_b, `(K_p, K_q)`."""
    factors_p, factors_q = _factors(p), _factors(q)
    means_p, means_q = np.asarray(p.means), np.asarray(q.means)
    # In the coordinates where q_b is standard normal: a sum of covariances squares their condition.
    ratio = np.linalg.solve(factors_q[None], factors_p[:, None])
    gaps = (means_p[:, None] - means_q[None])[..., None]
    shift = np.linalg.solve(factors_q[None], gaps)
    core = np.eye(p.dim) + ratio @ ratio.mT
    distances = (shift * np.linalg.solve(core, shift)).sum((-2, -1))
    log_dets = np.linalg.slogdet(factors_q)[1] + 0.5 * np.linalg.slogdet(core)[1]
    return _log_weights(p)[:, None] + _log_weights(q)[None] - log_dets - 0.5 * distances


def _factors(g):
    """Lower factors `(K, D, D)` of any scale."""
    scale = np.asarray(g.scale)
    if scale.ndim <= g.means.ndim:
        scale = scale.reshape(len(scale), -1, 1) * np.eye(g.dim)
    return np.broadcast_to(scale, (g.num_components, g.dim, g.dim))


def _log_weights(g):
    logits = np.asarray(g.logits)
    return logits - _log_sum(logits)


def _log_sum(table):
    return table.max() + np.log(np.exp(table - table.max()).sum())
