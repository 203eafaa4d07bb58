"""Labelmaps to score, and readers of them."""

import numpy as np
from scipy import ndimage

from pipeline.space import Window


def blobs(shape, seed=0, smooth=2.0, classes=4):
    """Labels of smoothed noise: many blobs of every class."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise = ndimage.gaussian_filter(noise, smooth)
    return np.digitize(noise, np.quantile(noise, np.linspace(0.6, 0.93, classes - 1))).astype("u1")


def reader(labels, windows=None):
    """A store's ``read``: windows inside the array alone; those it was asked for are noted."""

    def read(window):
        assert window.size and Window.whole(labels.shape).contains(window)
        if windows is not None:
            windows.append(window)
        return labels[window.slices]

    return read
