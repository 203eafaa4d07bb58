"""Cases to compare: made of voxels, or of figures alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from pipeline.drift.quantities import quantities
from pipeline.drift.quantity import Scale
from pipeline.drift.reference import Known, Reference
from pipeline.normalise import Normalisation, Scaling
from pipeline.space import Grid, Volume, Window
from pipeline.statistics import CaseStatistics
from tests.trained import small_plan

SIDE = 24
BY_CASE = small_plan(3)
BY_LIMITS = BY_CASE.model_copy(
    update={
        "normalisation": Normalisation(
            kind="dataset",
            channels=(Scaling(mean=40.0, std=60.0, lower=-160.0, upper=240.0),),
        )
    }
)


def scan(seed, side=SIDE):
    """A body of about 40 with a liver of about 100 in air of -1000, int16, (1, Z, Y, X)."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    voxels = np.full((side,) * 3, -1000.0)
    voxels[(x**2 + y**2 < random.uniform(0.5, 0.7)) & (z > -2)] = random.normal(40, 5)
    voxels[x**2 + y**2 + z**2 < random.uniform(0.1, 0.2)] = random.normal(100, 8)
    return np.rint(voxels + random.normal(0, 12, voxels.shape)).astype(np.int16)[None]


def spaced_grid(shape, spacing_mm=1.0):
    matrix = np.diag([*(spacing_mm,) * len(shape), 1.0])
    return Grid(tuple(shape), tuple(map(tuple, matrix.tolist())), "millimeter")


def store(array, valid=None, **grid):
    """What a volume store tells of an image without reading a voxel."""
    shape = array.shape[1:]
    placed = replace(spaced_grid(shape), **grid)
    found = CaseStatistics(shape, array.dtype, len(array), 0, None, shape)
    found.add(Window.whole(shape), Volume(array, placed, valid), None)
    channels = tuple(str(c) for c in range(len(array)))
    return SimpleNamespace(grid=placed, channels=channels, statistics=found.to_json())


def figures(array, plan=BY_CASE, class_voxels=None, target=None, **about):
    """What is measured of an image."""
    found = quantities(store(array, **about), class_voxels, target, plan)
    return {name: quantity.value for name, quantity in found.items()}


def reference(plan, images):
    """What is known of images as training cases."""
    measured = [quantities(store(image), None, None, plan) for image in images]
    known = {
        name: Known(tuple(sorted(case[name].value for case in measured)), quantity.scale)
        for name, quantity in measured[0].items()
    }
    return Reference(len(measured), known)


def known(values, slack=0.01, unit="", ratios=False):
    return Known(tuple(sorted(values)), Scale(slack, unit, ratios))


def of(name="mean of channel 0", **figures):
    """A reference of one quantity."""
    found = known(**figures)
    return Reference(len(found.values), {name: found})
