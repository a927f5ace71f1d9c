"""Settings common to all estimates: how many points, in how many replicates, of which set."""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from gmmjax._sampling.allocation import next_power_of_two
from gmmjax._validate import check_count, check_function


class Sampling(NamedTuple):
    """Settings common to all estimates, static under `jit`."""

    num_samples: int  # R·2ᵐ
    num_replicates: int
    points: Callable
    num_sharing: int  # how many estimates one program makes of the same points


_NUM_SHARING = ContextVar("num_sharing", default=1)


@contextlib.contextmanager
def sharing(count: int):
    """Make blocks smaller inside: so many estimates of the same points will share the cache."""
    token = _NUM_SHARING.set(count)
    try:
        yield
    finally:
        _NUM_SHARING.reset(token)


def check_sampling(num_samples, num_replicates, points) -> Sampling:
    """Check the settings, round the number of points up, and note how many estimates share the
    cache.
    """
    check_function("points", points)
    num_samples = check_count("num_samples", num_samples)
    num_replicates = min(check_count("num_replicates", num_replicates), num_samples)
    per_replicate = next_power_of_two(-(-num_samples // num_replicates))
    num_samples = num_replicates * per_replicate
    return Sampling(num_samples, num_replicates, points, _NUM_SHARING.get())
