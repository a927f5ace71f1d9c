"""One call for all divergences of two mixtures against a call of each."""

import numpy as np
import pytest
from cases import random_mixture

import gmmjax
from gmmjax._evaluation import compare
from gmmjax._mixture.gmm import index

SAMPLES = 2048  # enough for padding to change nothing but rounding


@pytest.mark.parametrize("most_alike", [compare.MOST_PADDED, 1], ids=["padded", "as they are"])
def test_each_number_is_what_its_function_gives(key, monkeypatch, most_alike):
    """Also where one mixture is padded to the shape of the other."""
    monkeypatch.setattr(compare, "MOST_PADDED", most_alike)
    p, q = random_mixture(0, 5, 2), random_mixture(1, 2, 2)
    found = gmmjax.compare(key, p, q, num_samples=SAMPLES)
    for name, expected in {
        "kl_pq": gmmjax.kl_divergence(key, p, q, num_samples=SAMPLES),
        "kl_qp": gmmjax.kl_divergence(key, q, p, num_samples=SAMPLES),
        "js": gmmjax.js_divergence(key, p, q, num_samples=SAMPLES),
        "kl_qp_bounds": gmmjax.kl_bounds(q, p),
        "ise": gmmjax.ise(p, q),
        "mw2_squared": gmmjax.mw2_squared(p, q),
    }.items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, err_msg=name)
    other = gmmjax.kl_divergence(key, q, p, num_samples=SAMPLES // 2)
    assert abs(found.kl_qp.value - other.value) > 1e-6


def test_one_program_is_for_both_ways(key):
    """And two are, where none is padded."""
    seen = []

    def traces(*pair):
        before = len(seen)
        gmmjax.kl_divergence(key, *pair, num_samples=SAMPLES, points=counted)
        return len(seen) - before

    def counted(*arguments):
        seen.append(arguments)
        return gmmjax.sobol(*arguments)

    p, q = random_mixture(0, 5, 2), random_mixture(1, 2, 2)
    both = gmmjax.stack([p, q])
    assert traces(index(both, 0), index(both, 1)) > 0
    assert traces(index(both, 1), index(both, 0)) == 0
    assert traces(p, q) > 0
    assert traces(q, p) > 0
