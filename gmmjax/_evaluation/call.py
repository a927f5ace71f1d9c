"""A call of a divergence as a compiled program takes it: what is static, and what is traced."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from gmmjax._mixture.gmm import GMM


class Call(NamedTuple):
    """What is static."""

    function: Callable
    keyed: bool
    keywords: tuple

    def __call__(self, key, mixtures: tuple[GMM, ...], arrays: dict, **more):
        first = (key,) if self.keyed else ()
        return self.function(*first, *mixtures, **dict(self.keywords), **arrays, **more)


def split(function: Callable, key, keywords: dict) -> tuple[Call, dict]:
    """The call without the keywords that are arrays, and these, which may be traced."""
    arrays = {k: v for k, v in keywords.items() if isinstance(v, jax.Array | np.ndarray)}
    static = tuple(sorted((k, v) for k, v in keywords.items() if k not in arrays))
    return Call(function, key is not None, static), arrays
