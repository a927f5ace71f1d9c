"""Anderson's acceleration of fixed-point iterations that lower a loss, for a batch of them."""

import numpy as np

MEMORY = 8  # how many past steps the next one is combined from


class Anderson:
    """Where each iteration of a batch goes next: a combination of past steps of least residual.

    Wherever that loses, the next step is a plain one from the best point so far. Rows of `theta`
    are independent iterations.

    Reference:
      Walker and Ni (2011), "Anderson acceleration for fixed-point iterations", section 2.
    """

    def __init__(self, theta: np.ndarray):
        self.theta = self.found = self._image = self._residual = theta
        self.loss = np.full(len(theta), np.inf)
        self._images = np.zeros((len(theta), MEMORY, theta.shape[1]))
        self._residuals = np.zeros_like(self._images)
        self._step = 0

    def update(self, image: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """Take the image of `theta` and its loss, and move on; by how much the loss has fallen."""
        better = loss <= self.loss  # NaN is not
        again = better & np.isfinite(self.loss)
        gain = np.where(better, np.inf, 0.0)
        gain[again] = self.loss[again] - loss[again]
        residual = image - self.theta
        at = self._step % MEMORY
        self._images[~better] = self._residuals[~better] = 0.0
        self._images[:, at] = _where(again, image - self._image, 0.0)
        self._residuals[:, at] = _where(again, residual - self._residual, 0.0)
        self.found = _where(better, self.theta, self.found)
        self.loss = np.where(better, loss, self.loss)
        self._image = _where(better, image, self._image)
        self._residual = _where(better, residual, self._residual)
        self.theta = _where(better, self._combined(), self._image)
        self._step += 1
        return gain

    def _combined(self):
        gram = self._residuals @ self._residuals.mT
        ridge = 1e-10 * np.trace(gram, axis1=1, axis2=2) + 1e-300
        gram = gram + ridge[:, None, None] * np.eye(MEMORY)
        mixed = np.linalg.solve(gram, self._residuals @ self._residual[:, :, None])
        return self._image - (self._images.mT @ mixed)[:, :, 0]


def _where(rows, new, old):
    return np.where(rows[:, None], new, old)
