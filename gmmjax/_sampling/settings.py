"""What all estimates can be asked: how many points, in how many replicates, of which set."""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from gmmjax._validate import check_count, check_function


class Sampling(NamedTuple):
    """What all estimates can be asked, static under `jit`: how many points, in how many replicates,
    of which set.
    """

    num_samples: int
    num_replicates: int
    points: Callable
    together: int  # how many estimates one program makes of the same points


_TOGETHER = ContextVar("together", default=1)


@contextlib.contextmanager
def together(count: int):
    """Blocks for `vmap` over so many estimates of the same points: as they share the cache, each
    has a part of it.
    """
    token = _TOGETHER.set(count)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def sampling(num_samples, num_replicates, points) -> Sampling:
    """The same, checked."""
    check_function("points", points)
    counts = check_count("num_samples", num_samples), check_count("num_replicates", num_replicates)
    return Sampling(*counts, points, _TOGETHER.get())
