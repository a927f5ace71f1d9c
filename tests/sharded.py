"""What `test_devices.py` runs in processes of its own: `sharded.py` alone, or `sharded.py address
count process`.

The same program on one device, on several, and on several processes; it prints one line of JSON.
"""

import functools
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

import gmmjax

PAIRS = 16


def batch(seed, *shape):
    """Random mixtures; every process makes the same ones."""
    rng = np.random.default_rng(seed)
    logits, means, log_scale = (rng.normal(size=(*shape, 3, *tail)) for tail in ((), (2,), (2,)))
    return gmmjax.GMM(jnp.asarray(logits), jnp.asarray(means), jnp.asarray(np.exp(0.3 * log_scale)))


def compiled(fn, *arguments):
    """A program, and the communication in it."""
    program = fn.lower(*arguments).compile()
    found = re.findall(r" (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", program.as_text())
    return program, sorted(set(found))


def main(address=None, count="1", process="0"):
    """All ways to use several devices."""
    jax.config.update("jax_enable_x64", True)
    if address:
        jax.distributed.initialize(address, num_processes=int(count), process_id=int(process))
    mesh = jax.make_mesh(
        (jax.device_count(),), ("devices",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    split, whole = (jax.NamedSharding(mesh, jax.P(*axis)) for axis in (("devices",), ()))
    key = jax.random.key(0)

    ps, qs = jax.device_put((batch(0, PAIRS), batch(1, PAIRS)), split)
    pairs, talk = compiled(
        jax.jit(jax.vmap(gmmjax.kl_divergence, in_axes=(None, 0, 0))), key, ps, qs
    )
    estimate = pairs(key, ps, qs)
    report = {
        "devices": jax.device_count(),
        "pairs_on_each": len(estimate.value.addressable_data(0)),
    }
    report |= {"pairs_talk": talk, "pairs": jax.jit(lambda e: e, out_shardings=whole)(estimate)}

    matrix = gmmjax.pairwise(gmmjax.kl_divergence, key, ps, batch(1, 3), num_samples=256)
    report |= {"rows_on_each": len(matrix.value.addressable_data(0))}
    report |= {"matrix": jax.jit(lambda e: e, out_shardings=whole)(matrix)}

    kl = functools.partial(gmmjax.kl_divergence, points=gmmjax.sharded(mesh))
    points, talk = compiled(
        jax.jit(jax.value_and_grad(kl, argnums=(1, 2), has_aux=True)), key, batch(2), batch(3)
    )
    report |= {"points_talk": talk, "points": points(key, batch(2), batch(3))}
    print(json.dumps(report, default=lambda leaf: np.asarray(leaf).tolist()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
