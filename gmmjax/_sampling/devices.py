"""The points of one estimate, dealt to several devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from gmmjax._sampling.points import sobol
from gmmjax._validate import check_function


class ShardedPoints(NamedTuple):
    """A point set whose blocks are dealt to the devices of a mesh."""

    points: Callable
    mesh: jax.sharding.Mesh

    def __call__(self, *arguments):
        return self.points(*arguments)


def sharded(mesh: jax.sharding.Mesh, points: Callable = sobol) -> ShardedPoints:
    """A point set for estimates of one pair on many devices.

    Pass it as `points=gmmjax.sharded(mesh)` to any estimate: each device draws and evaluates its
    part of the points, and all that devices tell each other are the sums of values and gradients.
    Value, error and gradient are those of one device, to rounding.

    Args:
      mesh: a mesh of devices, as `jax.make_mesh` makes; all of its axes are used, and their number
        has to divide the number of points.
      points: `gmmjax.sobol` or `gmmjax.iid`.

    Returns:
      A point set.

    Raises:
      TypeError: `mesh` is not a mesh, or `points` is not a function.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> mesh = jax.sharding.Mesh(jax.devices(), ("devices",))
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0], [1.0]]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 1)), jnp.full(1, 2.0))
      >>> kl = gmmjax.kl_divergence(jax.random.key(0), p, q, points=gmmjax.sharded(mesh))
      >>> print(f"{kl.value:.3f}")
      0.106
    """
    if not isinstance(mesh, jax.sharding.Mesh):
        raise TypeError(f"mesh: expected a mesh of devices, got {type(mesh).__name__}")
    check_function("points", points)
    # What is sharded here says so itself, whatever the axes of the mesh ask of others.
    return ShardedPoints(points, jax.sharding.Mesh(mesh.devices, mesh.axis_names))


def are_stratified(points: Callable) -> bool:
    """Whether points are those of Sobol, which fill space evenly, on one device or several."""
    return (points.points if isinstance(points, ShardedPoints) else points) is sobol


def num_devices(points: Callable) -> int:
    """Over how many devices a point set is dealt."""
    return points.mesh.size if isinstance(points, ShardedPoints) else 1


def sum_over_devices(points: Callable, function: Callable) -> Callable:
    """A function `(arguments, indices)` of blocks that sums them up: each device has its own.

    Args:
      points: the point set, of which alone it depends whether devices share the work.
      function: `(arguments, indices)`, a tree of sums over blocks with these indices.
    """
    if not isinstance(points, ShardedPoints):
        return function
    axes = points.mesh.axis_names

    def own_part(arguments, indices):
        return jax.lax.psum(function(arguments, indices), axes)

    return jax.shard_map(
        own_part,
        mesh=points.mesh,
        in_specs=(jax.P(), jax.P(axes)),
        out_specs=jax.P(),
        check_vma=False,
    )
