"""How far apart two mixtures are: estimates between their bounds, and closed forms beside them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax

from gmmjax._bounds.bounds import Bounds, js_bounds, kl_bounds
from gmmjax._estimates.js import js_divergence
from gmmjax._estimates.kl import kl_divergence
from gmmjax._evaluation.tolerance import estimate_to
from gmmjax._exact.l2 import cauchy_schwarz_divergence, ise
from gmmjax._mixture.gmm import GMM, common_float, index
from gmmjax._mixture.join import stack
from gmmjax._progress import bar
from gmmjax._sampling.estimate import Estimate
from gmmjax._transport.wasserstein import mw2_squared
from gmmjax._validate import keyed

# Beyond so many components absent ones may take longer than compiling another program: a rough
# number, on which nothing but time depends.
MOST_PADDED = 256
LABELS = {"kl_pq": "KL(p||q)", "kl_qp": "KL(q||p)", "js": "JS(p, q)"}


class Comparison(NamedTuple):
    """Divergences of two mixtures; `print` shows a table.

    Attributes:
      kl_pq: `Estimate` of KL(p‖q), in nats.
      kl_qp: the same the other way.
      js: `Estimate` of the Jensen–Shannon divergence, in nats.
      kl_pq_bounds: `Bounds` that hold, where they were asked for.
      kl_qp_bounds: the same the other way.
      js_bounds: the same for Jensen–Shannon.
      ise: integrated squared error, exact.
      cauchy_schwarz: Cauchy–Schwarz divergence, exact, in nats.
      mw2_squared: squared mixture Wasserstein distance, exact, in squared units of x.

    Example:
      >>> import gmmjax
      >>> gmmjax.Comparison._fields[:3]
      ('kl_pq', 'kl_qp', 'js')
    """

    kl_pq: Estimate
    kl_qp: Estimate
    js: Estimate
    kl_pq_bounds: Bounds
    kl_qp_bounds: Bounds
    js_bounds: Bounds
    ise: jax.Array
    cauchy_schwarz: jax.Array
    mw2_squared: jax.Array

    def __str__(self):
        lines = [bracket_header()]
        digits = _digits(min(float(getattr(self, name).stderr) for name in LABELS))
        for name, label in LABELS.items():
            bounds = getattr(self, f"{name}_bounds")
            lines.append(bracket(label, getattr(self, name), bounds, digits))
        return "\n".join([*lines, "", self.closed_forms()])

    def closed_forms(self) -> str:
        """Those on one line."""
        named = {
            "ISE": self.ise,
            "Cauchy-Schwarz": self.cauchy_schwarz,
            "MW2 squared": self.mw2_squared,
        }
        return "exact:  " + "   ".join(f"{name} {_rounded(x)}" for name, x in named.items())


@keyed
def compare(
    key,
    p: GMM,
    q: GMM,
    *,
    num_samples: int = 16_384,
    rtol: float | None = None,
    progress: bool = False,
) -> Comparison:
    r"""KL both ways and JS, estimated and between bounds that hold, and closed forms; in nats.

    Here :math:`\mathrm{KL}(p \| q) = \mathbb E_p[\log p - \log q]`. Not to be compiled as a whole,
    nor differentiated: each number is a function of its own, and what that function gives with this
    key for mixtures that `pad` has given one number of components, of up to 256. With 8 points per
    component and replicate that changes nothing but rounding.

    Args:
      key: a JAX key.
      p: a mixture.
      q: a mixture of the same dimension.
      num_samples: number of points of each estimate, a Python int.
      rtol: wanted relative standard error, instead of a number of points; see `gmmjax.estimate_to`.
      progress: show a bar after two seconds, number by number (needs `pip install
        gmmjax[progress]`).

    Returns:
      A `Comparison`.

    Raises:
      TypeError: `key` is not a key, `p` or `q` is not a `GMM`, or `num_samples` is not an int.
      ValueError: shapes disagree, or `num_samples` is below 1.
      ImportError: `progress` without tqdm.

    Example:
      >>> import gmmjax, jax, jax.numpy as jnp
      >>> p = gmmjax.GMM(jnp.zeros(2), jnp.array([[-1.0] * 3, [1.0] * 3]), jnp.ones(2))
      >>> q = gmmjax.GMM(jnp.zeros(1), jnp.zeros((1, 3)), jnp.full(1, 2.0))
      >>> found = gmmjax.compare(jax.random.key(0), p, q)
      >>> bool(found.js_bounds.lower <= found.js.value <= found.js_bounds.upper)
      True
    """
    p, q = common_float(p=p, q=q)
    both = stack([p, q])
    alike = index(both, 0), index(both, 1)  # so that one program is for KL both ways
    sides = alike if both.num_components <= MOST_PADDED else (p, q)
    steps = estimates(key, *sides, num_samples, rtol) | {
        "kl_pq_bounds": lambda: kl_bounds(*alike),
        "kl_qp_bounds": lambda: kl_bounds(*alike[::-1]),
        "js_bounds": lambda: js_bounds(p, q),
        "ise": lambda: ise(p, q),
        "cauchy_schwarz": lambda: cauchy_schwarz_divergence(p, q),
        "mw2_squared": lambda: mw2_squared(p, q),
    }
    found = {}
    for name in bar(steps, desc="compare", delay=2, leave=False) if progress else steps:
        found[name] = jax.block_until_ready(steps[name]())
    return Comparison(**found)


def estimates(key, p, q, num_samples, rtol) -> dict[str, Callable[[], Estimate]]:
    """How to get KL both ways and JS: as the functions themselves give them for this key."""

    def estimate(divergence, *sides):
        if rtol is None:
            return divergence(key, *sides, num_samples=num_samples)
        found = estimate_to(divergence, key, *sides, rtol=rtol)
        return Estimate(found.value, found.stderr)

    return {
        "kl_pq": lambda: estimate(kl_divergence, p, q),
        "kl_qp": lambda: estimate(kl_divergence, q, p),
        "js": lambda: estimate(js_divergence, p, q),
    }


def header(label: str = "") -> str:
    """What stands above `rows`."""
    return f"{label:<10}{'nats':>18}{'stderr':>12}"


def rows(labelled: dict) -> list[str]:
    """One line per estimate, all with as many digits as the best of them has."""
    digits = _digits(min(float(e.stderr) for e in labelled.values()))
    return [_row(label, e, digits) for label, e in labelled.items()]


def _row(label, estimate, digits):
    return f"{label:<10}{float(estimate.value):>18.{digits}f}{float(estimate.stderr):>12.1e}"


def bracket_header() -> str:
    """What stands above a `bracket`."""
    return f"{header()}{'at least':>14}{'at most':>14}"


def bracket(label: str, estimate: Estimate, bounds: Bounds, digits: int | None = None) -> str:
    """An estimate between its bounds, with as many digits as it has unless told otherwise."""
    row = _row(label, estimate, _digits(float(estimate.stderr)) if digits is None else digits)
    lower, upper = map(_rounded, bounds)
    if lower == upper:  # of a number that is known: as many digits as tell them apart
        lower, upper = (f"{float(bound):.10g}" for bound in bounds)
    return f"{row}{lower:>14}{upper:>14}"


def _digits(stderr):
    """Decimals, from 2 to 12, that show two digits of a standard error."""
    if math.isinf(stderr):
        return 6
    if stderr == 0:
        return 12
    return min(max(1 - math.floor(math.log10(stderr)), 2), 12)


def _rounded(value):
    return f"{float(value):.6g}"
