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


def without_key(p, q):
    """Functions of a pair that draw no points."""
    on_line = gmmjax.marginal(p, [0])
    return [
        gmmjax.component_kl(p, q),
        gmmjax.match(p, q),
        gmmjax.mw2_map(p, q, q.means),
        gmmjax.product(p, q)[1],
        gmmjax.cdf(on_line, q.means[:, 0]),
    ]


def in_mesh(key, ps, qs):
    """What users of `jax.set_mesh` have: pairs, matrices and rows that lie on its devices."""
    kl = functools.partial(gmmjax.kl_divergence, num_samples=256)
    p, x = batch(2), qs.means[:, 0]
    many = jnp.broadcast_to(x[:, None], (PAIRS, 8192, 2))  # more than one block

    @jax.jit
    def run(key, ps, qs, x, many):
        found = [
            jax.vmap(jax.value_and_grad(kl, argnums=2, has_aux=True), (None, 0, 0))(key, ps, qs),
            gmmjax.pairwise(gmmjax.ise, None, ps),
            jax.vmap(without_key)(ps, qs),
            gmmjax.log_prob(p, x),
            jnp.sum(gmmjax.log_prob(p, many)),
            gmmjax.em(x, p, num_steps=2).loss,
        ]
        return jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, jax.P()), found)

    return run(key, *jax.device_put((ps, qs, x, many), jax.P("devices")))


def main(address=None, count="1", process="0"):
    """All ways to use several devices."""
    jax.config.update("jax_enable_x64", True)
    if address:
        jax.distributed.initialize(address, num_processes=int(count), process_id=int(process))
    mesh = jax.make_mesh((jax.device_count(),), ("devices",))
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

    auto = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
    rows = jax.device_put(batch(0, PAIRS), jax.NamedSharding(auto, jax.P("devices")))
    matrix = gmmjax.pairwise(gmmjax.kl_divergence, key, rows, batch(1, 3), num_samples=256)
    report |= {"rows_on_each": len(matrix.value.addressable_data(0))}
    all_of_it = jax.NamedSharding(auto, jax.P())
    report |= {"matrix": jax.jit(lambda e: e, out_shardings=all_of_it)(matrix)}

    kl = functools.partial(gmmjax.kl_divergence, points=gmmjax.sharded(mesh))
    points, talk = compiled(
        jax.jit(jax.value_and_grad(kl, argnums=(1, 2), has_aux=True)), key, batch(2), batch(3)
    )
    report |= {"points_talk": talk, "points": points(key, batch(2), batch(3))}
    with jax.set_mesh(mesh):
        report |= {"in_mesh": in_mesh(key, batch(0, PAIRS), batch(1, PAIRS))}
    text = json.dumps(report, default=lambda leaf: np.asarray(leaf).tolist())
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
