"""Any library's mixture."""

from gmmjax._mixture.gmm import GMM
from gmmjax.interop._distrax import from_distrax
from gmmjax.interop._gmmx import from_gmmx
from gmmjax.interop._numpyro import from_numpyro
from gmmjax.interop._ott import from_ott
from gmmjax.interop._partner import belongs_to, describe
from gmmjax.interop._sklearn import from_sklearn
from gmmjax.interop._tfp import from_tfp
from gmmjax.interop._torch import from_torch

_READERS = {
    "sklearn": from_sklearn,
    "numpyro": from_numpyro,
    "distrax": from_distrax,
    "tensorflow_probability": from_tfp,
    "torch": from_torch,
    "ott": from_ott,
    "gmmx": from_gmmx,
}


def as_gmm(obj) -> GMM:
    r"""The mixture in an object of any library that is known here; exact.

    Known are scikit-learn, NumPyro, Distrax, TensorFlow Probability on JAX, PyTorch, OTT and gmmx.
    The object's class tells whose it is, or a class that it extends; none of these libraries is
    imported.

    Args:
      obj: a `GMM`, which is returned as it is, or what one of the functions `gmmjax.interop.from_…`
        takes.

    Returns:
      A `GMM`.

    Raises:
      TypeError: `obj` is of no library that is known here, or not of the kind that its library's
        function takes.
      ValueError: its parameters are not a mixture, or a batch of them.

    Example:
      >>> import gmmjax, numpy
      >>> from sklearn.mixture import GaussianMixture
      >>> x = numpy.arange(12.0).reshape(6, 2) ** 2
      >>> gmmjax.interop.as_gmm(GaussianMixture(2, random_state=0).fit(x)).dim
      2
    """
    if isinstance(obj, GMM):
        return obj
    for package, reader in _READERS.items():
        if belongs_to(obj, package):
            return reader(obj)
    raise TypeError(
        f"obj: expected a gmmjax.GMM or a mixture of {', '.join(_READERS)}, got {describe(obj)}"
    )
