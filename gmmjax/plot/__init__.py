"""Pictures of mixtures, fits and divergence matrices, drawn with matplotlib (`gmmjax[plot]`).

Every function draws into the `ax` it is given, or the current one, and returns it. `import gmmjax`
alone does not load matplotlib: that waits until `gmmjax.plot` is first used.
"""

from gmmjax.plot._drawing import plt
from gmmjax.plot._mixtures import density, marginals
from gmmjax.plot._results import curve, history, matrix

__all__ = ["curve", "density", "history", "marginals", "matrix", "plt"]
