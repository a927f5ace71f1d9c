"""A divergence as PyTorch's engine sees it: a function with a gradient of its own."""

import contextlib
import functools

import jax
import numpy as np

from gmmjax.interop._batches import as_batch, kl_of_batches
from gmmjax.interop._partner import as_array, load


@functools.cache
def kl_function():
    """The class, made where PyTorch is at hand: `apply(shapes, num_samples, *six tensors)`."""
    torch = load("torch", "torch", "register")

    def precision(tensors):
        """JAX would round tensors in double precision unless told that it may have them."""
        is_double = any(tensor.dtype == torch.float64 for tensor in tensors)
        return jax.enable_x64(True) if is_double else contextlib.nullcontext()

    class MixtureKL(torch.autograd.Function):
        """KL of two batches of mixtures, with both gradients of JAX."""

        @staticmethod
        def forward(ctx, shapes, num_samples, *tensors):
            ctx.tensors = tensors
            divergence = functools.partial(_divergence, shapes, num_samples)
            with precision(tensors):
                arrays = [as_array(tensor) for tensor in tensors]
                if any(ctx.needs_input_grad):
                    value, ctx.pull = jax.vjp(divergence, *arrays)
                else:
                    value = divergence(*arrays)
            return _like(torch, value, tensors[0])

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, slope):
            with precision(ctx.tensors):
                slopes = ctx.pull(as_array(slope))
            pairs = zip(slopes, ctx.tensors, strict=True)
            return None, None, *(_like(torch, leaf, tensor) for leaf, tensor in pairs)

    return MixtureKL


def _like(torch, array, tensor):
    """An array as a tensor of the type and on the device of another."""
    return torch.tensor(np.asarray(array), dtype=tensor.dtype, device=tensor.device)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _divergence(shapes, num_samples, *arrays):
    p, q = (as_batch(*side) for side in ((shapes[0], *arrays[:3]), (shapes[1], *arrays[3:])))
    return kl_of_batches(p, q, num_samples)
