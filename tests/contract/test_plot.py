"""Pictures against pictures that were looked at; run as a script, this file draws those anew."""

import subprocess
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from cases import cast, random_mixture, reference
from matplotlib.testing.compare import compare_images

import gmmjax
from gmmjax import plot

matplotlib.use("Agg")
plt = plot.plt
IMAGES = Path(__file__).parents[1] / "images"
TOLERANCE = 8  # root mean square of grey levels: fonts and antialiasing differ between versions
STYLE = {"figure.figsize": (5.0, 3.75), "figure.dpi": 64, "figure.constrained_layout.use": True}


@pytest.fixture(autouse=True)
def no_figures_of_others():
    plt.close("all")


def fitted(noise=0.1):
    steps = np.arange(120)
    loss = 0.01 + 2 * np.exp(-steps / 20)
    return types.SimpleNamespace(losses=loss * (1 + noise * np.sin(steps**2)), stderrs=noise * loss)


def line(name="crouse_10_to_4"):
    p, q = reference(name)
    plot.density(q, plot.density(p, label="p"), color="C1", label="q").legend()


def plane(name="planar_3_to_2"):
    p, q = reference(name)
    plot.density(q, plot.density(p, label="p"), color="C1", label="q").legend()


def corner(seed=3):
    axes = plt.figure(figsize=(5, 5)).subplots(3, 3)
    plot.marginals(random_mixture(seed, 3, 3), axes)


def history(noise=0.1):
    plot.history(fitted(noise))


def matrix(power=1.0):
    distances = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0) ** 1.1)) ** power
    plot.matrix(
        gmmjax.Estimate(jnp.asarray(distances), jnp.ones((6, 6))),
        labels=[f"model {i}" for i in range(6)],
    )


def clustered(order="cluster"):
    places = np.array([3.0, 0.0, 3.2, 0.1, 3.1])
    models = dict.fromkeys("abcde")
    plot.matrix(np.abs(np.subtract.outer(places, places)), models, order=order)


def overlay(label="q"):
    axes = plt.figure(figsize=(4.5, 4.5)).subplots(3, 3)
    plot.marginals(random_mixture(3, 3, 3), axes, label="p")
    plot.marginals(random_mixture(4, 30, 3), axes, color="C1", label=label, components=False)
    axes[0, 0].figure.legend(loc="upper right")


def curve(noise=0.05):
    losses = {n: 2.0 / n**2 for n in range(1, 7)}
    plot.curve({n: reduction(loss, noise) for n, loss in losses.items()}, label="reduced")


def reduction(loss, noise):
    start, found = gmmjax.Estimate(1.5 * loss, 0.0), gmmjax.Estimate(loss, noise * loss)
    return types.SimpleNamespace(start=start, loss=found)


PICTURES = {  # and an argument with which each becomes another picture
    line: "crouse_10_to_6",
    plane: "pair_vs_wide",
    corner: 4,
    history: 0.3,
    matrix: 2.0,
    clustered: [0, 1, 2, 3, 4],
    overlay: "another mixture with a long name",
    curve: 0.4,
}


def draw(picture, path, *args):
    with plt.rc_context(STYLE):
        picture(*args)
        plt.savefig(path)
        plt.close("all")


@pytest.mark.parametrize("picture", PICTURES, ids=lambda f: f.__name__)
def test_pictures(picture, tmp_path):
    expected = IMAGES / f"{picture.__name__}.png"
    drawn, other = tmp_path / "drawn.png", tmp_path / "other.png"
    draw(picture, drawn)
    assert compare_images(str(expected), str(drawn), TOLERANCE) is None
    draw(picture, other, PICTURES[picture])
    # it would have been noticed
    assert compare_images(str(expected), str(other), TOLERANCE) is not None


@pytest.mark.parametrize("picture", PICTURES, ids=lambda f: f.__name__)
def test_images_are_small(picture):
    assert (IMAGES / f"{picture.__name__}.png").stat().st_size < 30_000


def test_axes_are_returned_and_nothing_else_is_touched():
    figure, (left, right) = plt.subplots(1, 2)
    assert plot.density(random_mixture(0, 2, 1), right) is right
    assert plot.history(fitted(), right) is right
    assert not left.lines
    assert plot.density(random_mixture(0, 2, 2)) is plt.gca()
    plt.close(figure)


def test_narrow_components_are_resolved_and_absent_ones_left_out():
    g = gmmjax.GMM(
        jnp.array([0.0, 0.0, -jnp.inf]),
        jnp.array([[0.0], [5.0], [1e9]]),
        jnp.array([1.0, 1e-4, 1.0]),
    )
    (ax,) = plt.figure().subplots(1, 1, squeeze=False)[0]
    (*parts, whole) = plot.density(g, ax).lines
    assert len(parts) == 2
    assert ax.get_xlim()[1] < 10
    height = 0.5 / (1e-4 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(whole.get_ydata().max(), height, rtol=1e-3)
    assert ax.get_ylim()[1] > height
    plt.close("all")


def test_regions_hold_their_share():
    g = random_mixture(1, 1, 2)
    ax = plot.density(g, plt.figure().subplots())
    radius = np.sqrt(-2 * np.log(1 - 0.95))  # of a Gaussian's 95 % region
    outline = ax.collections[0].get_paths()[0].vertices
    white = np.linalg.solve(
        np.linalg.cholesky(gmmjax.covariances(g)[0]), (outline - np.asarray(g.means)).T
    )
    np.testing.assert_allclose(np.max(np.linalg.norm(white, axis=0)), radius, rtol=0.02)
    plt.close("all")


def test_single_precision_is_drawn():
    ax = plot.density(cast(random_mixture(0, 2, 2), jnp.float32), plt.figure().subplots())
    assert ax.get_xlabel() == "$x_1$"


def test_coordinates_have_names():
    g, names = random_mixture(0, 2, 2), ["age", "income"]
    axes = plot.marginals(g, coordinates=names)
    assert axes[1, 0].get_xlabel() == "age"
    assert axes[1, 0].get_ylabel() == "income"
    with pytest.warns(DeprecationWarning, match="labels: is called coordinates now"):
        assert plot.marginals(g, labels=names)[1, 0].get_xlabel() == "age"


def test_rows_and_columns_have_names():
    ax = plot.matrix(np.ones((2, 3)), (["a", "b"], ["x", "y", "z"]), plt.figure().subplots())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x", "y", "z"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    ax = plot.matrix(np.eye(2), {"one": None, "two": None}, plt.figure().subplots())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]


@pytest.mark.parametrize(
    ("largest", "decimals", "written"),
    [(0.6, None, "0.001"), (12.0, None, "0.0"), (500.0, None, "0"), (12.0, 4, "0.0012")],
)
def test_all_numbers_of_a_matrix_have_equally_many_decimals(largest, decimals, written):
    values = [[0.0012, largest], [largest, 0.0]]
    ax = plot.matrix(values, ax=plt.figure().subplots(), decimals=decimals)
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == written
    assert len({len(text.partition(".")[2]) for text in texts}) == 1


def test_near_models_stand_side_by_side():
    places = np.array([3.0, 0.0, 3.2, 0.1, 3.1])
    distances = np.abs(np.subtract.outer(places, places))
    ax = plot.matrix(distances, order="cluster", ax=plt.figure().subplots())
    order = [int(tick.get_text()) for tick in ax.get_yticklabels()]
    assert set(order[:2]) in ({1, 3}, {0, 2, 4} - {order[2]})
    np.testing.assert_array_equal(ax.images[0].get_array(), distances[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (plot.density, "g: expected dimension 1 or 2, got 3; gmmjax.plot.marginals"),
        (lambda g: plot.density(None), "g: expected a gmmjax.GMM"),
        (
            lambda g: plot.density(gmmjax.marginal(g, [0]), g),
            "ax: expected axes of matplotlib, got G",
        ),
        (lambda g: plot.marginals(g, g), "axes: expected an array of axes of matplotlib, got GMM"),
        (lambda g: plot.marginals(gmmjax.marginal(g, [0])), "g: expected dimension 2 or more"),
        (
            lambda g: plot.marginals(g, np.empty((2, 2))),
            r"axes: expected an array of shape \(3, 3\)",
        ),
        (lambda g: plot.marginals(g, coordinates=["a"]), "coordinates: expected 3 names, got 1"),
        (plot.curve, "results: expected a dict"),
        (lambda g: plot.matrix(np.ones((2, 3)), order=[0, 1]), "order: is for square matrices"),
        (lambda g: plot.matrix(np.eye(2), order="size"), 'order: expected "cluster" or the ind'),
        (lambda g: plot.matrix(np.eye(2), order=[0, 0]), "order: expected"),
        (plot.history, "result: expected losses and stderrs"),
        (lambda g: plot.matrix(np.ones(3)), r"values: expected a matrix, got shape \(3,\)"),
        (
            lambda g: plot.matrix(np.ones((2, 3)), ["a", "b"]),
            "labels: expected 3 names, got 2",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(random_mixture(0, 2, 3))


def test_without_matplotlib_one_line_says_what_to_install():
    code = """
import sys
sys.modules["matplotlib"] = None
import gmmjax
print("fine")
gmmjax.plot
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == "fine\n"
    last = result.stderr.strip().splitlines()[-1]
    assert last == "ImportError: gmmjax.plot needs matplotlib: pip install gmmjax[plot]"


def test_plot_is_loaded_when_it_is_first_used():
    code = """
import sys, gmmjax
print("matplotlib" in sys.modules, gmmjax.plot.density.__name__, "matplotlib" in sys.modules)
gmmjax.pictures
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == "False density True\n"
    assert result.stderr.strip().endswith("module 'gmmjax' has no attribute 'pictures'")


if __name__ == "__main__":
    for picture in PICTURES:
        draw(picture, IMAGES / f"{picture.__name__}.png")
