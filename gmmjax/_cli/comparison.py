"""What `compare` shows, each number as soon as it is there.

Programs are made for mixtures of one shape, so that both directions share them, two at a time: XLA
compiles a program on one core.
"""

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import jax.numpy as jnp

from gmmjax._bounds.bounds import Bounds, js_bounds, kl_bounds
from gmmjax._bounds.bracket import bracket, is_quick
from gmmjax._cli import closed_forms
from gmmjax._cli.programs import compiled
from gmmjax._cli.store import Store
from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import kl_divergence
from gmmjax._evaluation.compare import Comparison, estimates
from gmmjax._exact.l2 import cauchy_schwarz_divergence, ise
from gmmjax._exact.quadrature import js_quadrature, kl_quadrature
from gmmjax._mixture.gmm import GMM, index
from gmmjax._mixture.join import stack
from gmmjax._sampling.estimate import Estimate
from gmmjax._transport.wasserstein import mw2_squared

NUM_SAMPLES = 16_384
# Points times components times dimensions: so few take a tenth of a second however compiled.
LITTLE = 1 << 22


# How to get some numbers each, by their names.
Tasks = dict[tuple[str, ...], Callable[[], tuple]]


class Effort(NamedTuple):
    """How divergences are to be found; where neither is given by quadrature, if that is quick."""

    num_samples: int | None
    rtol: float | None

    def is_exact(self, p: GMM, q: GMM) -> bool:
        """Whether quadrature takes the place of estimates."""
        return self.num_samples is None and self.rtol is None and is_quick(p, q)

    def told(self, p: GMM, q: GMM) -> dict:
        """How the numbers were found, for programs."""
        if self.is_exact(p, q):
            return {"method": "quadrature"}
        if self.rtol is None:
            return {"samples": self.num_samples or NUM_SAMPLES}
        return {"rtol": self.rtol}

    def in_words(self, p: GMM, q: GMM) -> str:
        """How the numbers were found, for people."""
        if self.is_exact(p, q):
            return "by quadrature, right to nine digits"
        if self.rtol is None:
            return f"{self.num_samples or NUM_SAMPLES} samples per mixture"
        return f"wanted relative stderr {self.rtol:g}"


class _Pair(NamedTuple):
    """Two mixtures of one shape, and where programs of them are kept."""

    store: Store | None
    p: GMM
    q: GMM

    def one_way(self, function: Callable, *leading, **options) -> tuple:
        """f(p, q)."""
        program = compiled(self.store, function, *leading, self.p, self.q, **options)
        return (program(*leading, self.p, self.q),)

    def both_ways(self, function: Callable, *leading, **options) -> tuple:
        """f(p, q) and f(q, p), by one program."""
        program = compiled(self.store, function, *leading, self.p, self.q, **options)
        return program(*leading, self.p, self.q), program(*leading, self.q, self.p)


@contextmanager
def running(store: Store | None, key, p: GMM, q: GMM, effort: Effort) -> Iterator[Callable]:
    """A function that waits for a number of a `Comparison`, all of which are on their way."""
    alike = stack([p, q])
    pair = _Pair(store, index(alike, 0), index(alike, 1))
    tasks = _by_quadrature(pair) if effort.is_exact(p, q) else _by_points(pair, key, effort)
    pool = ThreadPoolExecutor(2)
    try:
        futures = {names: pool.submit(task) for names, task in tasks.items()}
        yield functools.partial(_wait, futures)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _wait(futures, name):
    names = next(names for names in futures if name in names)
    return futures[names].result()[names.index(name)]


def together(wait: Callable) -> Comparison:
    """All numbers, when they are there."""
    return Comparison(**{name: wait(name) for name in Comparison._fields})


def _by_points(pair, key, effort) -> Tasks:
    """KL and JS by estimates, and what needs none; those that take longest come first."""
    kl, js = _estimates(pair, key, effort)
    return {
        ("kl_pq", "kl_qp"): kl,
        ("kl_pq_bounds", "kl_qp_bounds"): functools.partial(pair.both_ways, kl_bounds),
        ("js",): js,
        ("js_bounds",): functools.partial(pair.one_way, js_bounds),
        **_without_noise(pair),
    }


def _estimates(pair, key, effort):
    """How to get KL both ways, and how to get JS."""
    if effort.rtol is not None:
        wanted = estimates(key, pair.p, pair.q, None, effort.rtol)
        return lambda: (wanted["kl_pq"](), wanted["kl_qp"]()), lambda: (wanted["js"](),)
    num_samples = effort.num_samples or NUM_SAMPLES
    quickly = num_samples * pair.p.means.size <= LITTLE
    options = {"num_samples": num_samples, "quickly": quickly}
    return (
        functools.partial(pair.both_ways, kl_divergence, key, **options),
        functools.partial(pair.one_way, js_divergence, key, **options),
    )


def _by_quadrature(pair) -> Tasks:
    """KL and JS without noise, and bounds of the same numbers."""

    def kl():
        forward, backward = pair.both_ways(_kl_and_bounds)
        return *forward, *backward

    return {
        ("kl_pq", "kl_pq_bounds", "kl_qp", "kl_qp_bounds"): kl,
        ("js", "js_bounds"): lambda: pair.one_way(_js_and_bounds)[0],
        **_without_noise(pair),
    }


def _kl_and_bounds(p, q):
    value = kl_quadrature(p, q)
    lower, upper, _ = bracket(value, p, q)
    return Estimate(value, jnp.zeros_like(value)), Bounds(lower, upper)


def _js_and_bounds(p, q):
    value = js_quadrature(p, q)
    lower, upper, _ = bracket(value, p, q, at_most=math.log(2))
    return Estimate(value, jnp.zeros_like(value)), Bounds(lower, upper)


def _without_noise(pair) -> Tasks:
    return {
        ("mw2_squared",): functools.partial(pair.one_way, mw2_squared),
        ("ise", "cauchy_schwarz"): functools.partial(_l2, pair),
    }


def _l2(pair):
    if closed_forms.fits(pair.p, pair.q):
        return closed_forms.ise_and_cauchy_schwarz(pair.p, pair.q)
    return *pair.one_way(ise), *pair.one_way(cauchy_schwarz_divergence)
