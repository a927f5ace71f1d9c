"""Mixtures from and to other libraries, which are imported only where one of their objects is
built.

Parameters are read by attribute. Arrays of JAX libraries stay traced, so that conversions can be
differentiated.
"""

from gmmjax.interop._any import as_gmm as as_gmm
from gmmjax.interop._distrax import from_distrax as from_distrax
from gmmjax.interop._distrax import to_distrax as to_distrax
from gmmjax.interop._gmmx import from_gmmx as from_gmmx
from gmmjax.interop._gmmx import to_gmmx as to_gmmx
from gmmjax.interop._numpyro import from_numpyro as from_numpyro
from gmmjax.interop._numpyro import to_numpyro as to_numpyro
from gmmjax.interop._ott import from_ott as from_ott
from gmmjax.interop._ott import to_ott as to_ott
from gmmjax.interop._register import register as register
from gmmjax.interop._sklearn import from_sklearn as from_sklearn
from gmmjax.interop._sklearn import to_sklearn as to_sklearn
from gmmjax.interop._tfp import from_tfp as from_tfp
from gmmjax.interop._tfp import to_tfp as to_tfp
from gmmjax.interop._torch import from_torch as from_torch
from gmmjax.interop._torch import to_torch as to_torch
