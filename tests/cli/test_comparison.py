"""What `compare` computes its own way, beside the functions that it stands for."""

import json

import numpy as np
import pytest
from cases import KINDS, random_mixture

import gmmjax
from gmmjax._cli import closed_forms
from gmmjax._cli.main import main


@pytest.mark.parametrize("kind", KINDS)
def test_closed_forms_of_numpy_are_those_of_jax(kind):
    p, q = random_mixture(0, 3, 3, kind=kind), random_mixture(50, 2, 3)
    for a, b in ((p, q), (q, p)):
        ise, cauchy_schwarz = closed_forms.ise_and_cauchy_schwarz(a, b)
        np.testing.assert_allclose(ise, gmmjax.ise(a, b), rtol=1e-11)
        expected = gmmjax.cauchy_schwarz_divergence(a, b)
        np.testing.assert_allclose(cauchy_schwarz, expected, rtol=1e-11)
    np.testing.assert_allclose(closed_forms.ise_and_cauchy_schwarz(p, p), 0, atol=1e-13)


def test_closed_forms_survive_distance():
    p = gmmjax.GMM(np.zeros(1), np.zeros((1, 2)), np.ones(1))
    ise, cauchy_schwarz = closed_forms.ise_and_cauchy_schwarz(p, p._replace(means=p.means + 1e3))
    np.testing.assert_allclose([ise, cauchy_schwarz], [1 / (2 * np.pi), 5e5], rtol=1e-12)


def test_on_a_line_quadrature_takes_the_place_of_points(tmp_path, capsys):
    p, q = random_mixture(0, 2, 1), random_mixture(50, 3, 1)
    paths = [str(tmp_path / f"{name}.npz") for name in "pq"]
    for path, g in zip(paths, (p, q), strict=True):
        gmmjax.save(path, g)
    assert main(["compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["method"] == "quadrature"
    assert "samples" not in found
    expected = gmmjax.kl_quadrature(p, q), gmmjax.kl_quadrature(q, p), gmmjax.js_quadrature(p, q)
    values = [found[name]["value"] for name in ("kl_pq", "kl_qp", "js")]
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    bounds = gmmjax.kl_bounds(q, p)
    assert [found["kl_qp"][name] for name in ("lower", "upper")] == pytest.approx(
        list(map(float, bounds))
    )
