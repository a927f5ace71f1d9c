"""Arguments of a fit, refused with words a user can act on."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from gmmjax._mixture.gmm import GMM
from gmmjax._properties import is_divergence, properties, unbound
from gmmjax._validate import check_function, takes_key


def check_loss(loss: Callable) -> None:
    """Refuse what is no function, and a divergence, which would see its mixtures in another order.

    A fit calls `loss(key, q, *args)`: with `args=(p,)` a divergence would silently be that of q
    from p.
    """
    check_function("loss", loss)
    symmetric = properties(loss).symmetric
    if not is_divergence(loss) or (takes_key(loss) and symmetric):
        return
    name = getattr(unbound(loss)[0], "__name__", "divergence")
    key = "key, " if takes_key(loss) else ""
    reverse = f", or the other way round `lambda key, q, p: gmmjax.{name}({key}q, p)`"
    raise TypeError(
        f"loss: is called with (key, q, *args), and {name} takes ({key}p, q); with args=(p,) write "
        f"`lambda key, q, p: gmmjax.{name}({key}p, q)`{'' if symmetric else reverse}"
    )


def check_optimizer(optimizer) -> None:
    """Refuse what is no optax transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer: expected one of optax, such as optax.adam(0.02), got {optimizer!r}"
        )


def check_args(args) -> tuple:
    """Further arguments of a loss as a tuple; a mixture, which is a tuple too, is refused."""
    if isinstance(args, GMM):
        raise TypeError("args: expected a tuple of arguments, got a GMM; write args=(p,)")
    if not isinstance(args, tuple | list):
        raise TypeError(
            f"args: expected a tuple of arguments such as (p,), got {type(args).__name__}"
        )
    return tuple(args)


def check_trainable(trainable, init: GMM) -> None:
    """Refuse what is no `GMM` of booleans that broadcast against the leaves of a mixture."""
    if not isinstance(trainable, GMM):
        raise TypeError(
            f"trainable: expected a gmmjax.GMM of booleans, got {type(trainable).__name__}"
        )
    for name, choice, leaf in zip(GMM._fields, trainable, init, strict=True):
        try:
            fits = jnp.broadcast_shapes(jnp.shape(choice), leaf.shape) == leaf.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"trainable.{name}: expected booleans that broadcast to {leaf.shape}, the shape "
                f"of init.{name}, got shape {jnp.shape(choice)}"
            )
