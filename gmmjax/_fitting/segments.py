"""A fit, compiled in parts, and the loop over segments of it: a bar, Ctrl-C, checkpoints."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gmmjax._compile import SOON, WIDE, compile_side_by_side, is_new, jit_with
from gmmjax._fitting import checkpoints
from gmmjax._fitting.descent import Record
from gmmjax._jax import is_outermost, is_traced
from gmmjax._progress import watched
from gmmjax._validate import warn


def compiled_fit(name: str, begin: Callable, advance: Callable, finish: Callable) -> Callable:
    """A fit `(method, problem, interval, progress, checkpoint)`, to what `finish` returns.

    Where somebody watches or keeps it, it goes in segments of so many steps. Where it is called by
    itself its steps and its end, which takes the loss once more, are compiled side by side.

    Args:
      name: of the function which the user calls.
      begin: `(method, problem) -> state`, of which `stopped` says that there are no more steps.
      advance: `(method, problem, state, start, count) -> (state, Record)`, for `count` steps.
      finish: `(method, problem, state, records) -> result`.
    """
    first: Any = jit_with(SOON, static_argnums=0)(begin)
    steps: Any = jit_with(WIDE, static_argnums=(0, 4))(advance)
    last: Any = jit_with(SOON, static_argnums=0)(finish)

    def programs(method, problem, count):
        state = first.eval_shape(method, problem)
        yield steps, method, problem, state, 0, count
        of_steps = jax.ShapeDtypeStruct((method.num_steps,), problem.init.means.dtype)
        yield last, method, problem, state, Record._make([of_steps] * 3)
        yield first, method, problem

    def fit(method, problem, interval: int, progress: bool, checkpoint):
        watched = progress or checkpoint is not None
        if watched and is_traced(problem):
            raise ValueError(
                "progress, checkpoint: are for concrete fits, not for those under jit or vmap"
            )
        count = interval if watched else method.num_steps
        if not is_traced(problem) and is_outermost() and is_new(advance, problem, method, count):
            compile_side_by_side(programs(method, problem, count))
        state = first(method, problem)
        if not watched:
            return last(method, problem, *steps(method, problem, state, 0, count))

        def segment(state, start):
            return steps(method, problem, state, start, interval)

        state, records = _run(name, segment, state, problem, method.num_steps, progress, checkpoint)
        return last(method, problem, state, Record(*map(jnp.asarray, records)))

    return fit


def _run(name, advance, state, problem, num_steps, progress, checkpoint):
    """Apply `advance(state, start) -> (state, records)` until `num_steps` are done or
    `state.stopped`.

    Returns the last state and the records, arrays `(num_steps,)` that end in NaN where there are
    none.
    """
    records = [np.full(num_steps, np.nan, problem.init.means.dtype) for _ in range(3)]
    done = 0
    if checkpoint is not None and os.path.exists(checkpoint):
        done, state, records = checkpoints.read(checkpoint, problem, state, records)
    bar = {"total": num_steps, "initial": done, "desc": name, "unit": "step"}
    with watched(None, progress, **bar) as shown:
        try:
            pending = None
            while done < num_steps and not state.stopped:
                ahead, new = pending or advance(state, done)
                count = min(len(new[0]), num_steps - done)
                # The next segment runs while this one is shown and written.
                pending = advance(ahead, done + count) if done + count < num_steps else None
                new = [np.asarray(values)[:count] for values in new]
                for record, values in zip(records, new, strict=True):
                    record[done : done + count] = values
                state, done = ahead, done + count
                if shown is not None:
                    _show(shown, new)
                if checkpoint is not None:
                    checkpoints.write(checkpoint, done, problem, state, records)
        except KeyboardInterrupt:
            warn(f"{name}: interrupted after {done} of {num_steps} steps; this is the best so far")
    return state, records


def _show(shown, new):
    values, stderrs, _ = new
    last = np.flatnonzero(np.isfinite(values))
    if len(last):
        shown.set_postfix_str(
            f"loss {values[last[-1]]:.5g} ± {stderrs[last[-1]]:.1g}", refresh=False
        )
    shown.update(len(values))
