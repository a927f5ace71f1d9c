"""The table of divergences between components."""

import numpy as np
import pytest
from cases import KINDS, random_mixture

import gmmjax


@pytest.mark.parametrize("kind", KINDS)
def test_each_entry_is_the_divergence_of_two_gaussians(kind):
    p, q = random_mixture(0, 3, 2, kind=kind), random_mixture(1, 2, 2)
    found = gmmjax.component_kl(p, q)
    assert found.shape == (3, 2)
    for a, b in np.ndindex(3, 2):
        one = gmmjax.from_covariances([1.0], p.means[a : a + 1], gmmjax.covariances(p)[a : a + 1])
        other = gmmjax.from_covariances([1.0], q.means[b : b + 1], gmmjax.covariances(q)[b : b + 1])
        np.testing.assert_allclose(found[a, b], gmmjax.gaussian_kl(one, other), rtol=1e-10)
    assert np.abs(found - gmmjax.component_kl(q, p).T).max() > 0.01
