"""Intensities as the network sees them: the same in every window."""

import numpy as np
import pytest

from pipeline.io.planned_volume import PlannedVolume
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.normalise import Normalisation, Scaling, normalise
from pipeline.space import Grid, Volume, Window, aligned_windows, crop, voxel_grid
from pipeline.space.grid import as_affine
from pipeline.statistics import CaseStatistics

NONZERO = Normalisation(kind="case", nonzero=True)
SHAPE = (20, 36, 33)


def brain(dtype="int16"):
    """Give a scan of two channels without its skull, a part of it not measured."""
    random = np.random.default_rng(0)
    place = np.indices(SHAPE)
    inside = sum(((p - n / 2) / (0.4 * n)) ** 2 for p, n in zip(place, SHAPE, strict=True)) < 1
    array = random.normal([[[[500]]], [[[90]]]], 30, (2, *SHAPE)).astype(dtype) * inside
    array[0, random.random(SHAPE) < 0.1] = 0  # in one channel only
    valid = np.ones(SHAPE, bool)
    valid[:, :12] = False
    return Volume(array.astype(dtype), Grid(SHAPE, as_affine(np.eye(4)), "millimeter"), valid)


def told(volume):
    found = CaseStatistics(SHAPE, volume.array.dtype, 2, 0, None, SHAPE)
    found.add(Window.whole(SHAPE), volume, None)
    return found.to_json()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_the_inside_has_mean_0_and_deviation_1_and_the_outside_stays_0(dtype):
    volume = brain(dtype)
    scaled = normalise(volume, NONZERO.scalings(told(volume)))
    inside = (volume.array != 0).any(axis=0) & volume.valid
    assert (scaled[:, ~inside] == 0).all()
    np.testing.assert_allclose(scaled[:, inside].mean(axis=1, dtype=float), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[:, inside].std(axis=1, dtype=float), 1, rtol=1e-5)
    # A voxel that is 0 in one channel is of the inside: there it is as dark as it can be.
    dark = inside & (volume.array[0] == 0)
    assert dark.any() and (scaled[0, dark] < -2).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.4, 0.7, 1.0)])
def test_a_window_is_scaled_as_it_is_in_the_whole(spacing, tmp_path):
    volume = brain()
    writer = VolumeWriter(tmp_path / "a.zarr", VolumeSpec(volume.grid, "int16", ("a", "b"), None))
    for window in writer.windows():
        writer.write(window, crop(volume, window), None)
    writer.finish(told(volume), "key", [])
    store = VolumeStore(tmp_path / "a.zarr")
    planned, scalings = PlannedVolume.at_spacing(store, spacing), NONZERO.scalings(store.statistics)
    whole = planned.normalised(Window.whole(planned.shape), scalings)
    corner = planned.normalised(Window((0, 0, 0), (3, 3, 3)), scalings)
    assert (corner == 0).all()
    for window in aligned_windows(planned.shape, (7, 20, 33)):
        place = (slice(None), *window.slices)
        np.testing.assert_array_equal(planned.normalised(window, scalings), whole[place])


def test_a_case_of_zeros_alone_stays_zero():
    volume = Volume(np.zeros((2, *SHAPE), np.int16), voxel_grid(SHAPE))
    assert not normalise(volume, NONZERO.scalings(told(volume))).any()


def test_zeros_stay_where_a_channel_says_so():
    volume = Volume(np.array([[[0, 0, 4]], [[0, 6, 0]]], np.uint8), voxel_grid((1, 3)))
    scalings = (Scaling(mean=2, std=2, keep_zeros=True), Scaling(mean=2, std=2))
    assert normalise(volume, scalings).tolist() == [[[0, -1, 1]], [[-1, 2, -1]]]
