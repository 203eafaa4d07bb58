"""A case at the planned spacing: the store resampled, window by window."""

import numpy as np
import pytest

from pipeline.errors import GridError, StoreError
from pipeline.io.ngff import LabelClass
from pipeline.io.planned_volume import PlannedVolume
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.normalise import Scaling, normalise
from pipeline.space import (
    Grid,
    Volume,
    Window,
    aligned_windows,
    crop,
    resample_image,
    resample_labels,
)
from pipeline.space.grid import as_affine

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "cell"))
SHAPE = (40, 70, 66)
SPACING = (2.0, 1.0, 1.0)
SCALINGS = (Scaling(mean=100, std=20, lower=60, upper=150), Scaling(mean=0, std=2))


def scan():
    matrix = np.eye(4)
    matrix[:3, :3] = np.fliplr(np.diag(SPACING[::-1]))
    array = np.random.default_rng(0).normal(100, 40, (2, *SHAPE)).astype(np.int16)
    valid = np.ones(SHAPE, bool)
    valid[:, :9] = False
    truth = (array[0] > 100).astype(np.uint8)
    return Volume(array, Grid(SHAPE, as_affine(matrix), "millimeter"), valid), truth


def write(path, volume, truth, **about):
    classes = CLASSES if truth is not None and "target" not in about else None
    spec = VolumeSpec(volume.grid, "int16", ("a", "b"), classes, **about)
    writer = VolumeWriter(path, spec)
    for window in writer.windows():
        labels = None if truth is None else truth[window.slices]
        writer.write(window, crop(volume, window), labels)
    writer.finish({}, "key", [])
    return VolumeStore(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write(tmp_path_factory.mktemp("stores") / "a.zarr", *scan())


def test_a_case_of_the_planned_spacing_is_its_store(store):
    planned = PlannedVolume.at_spacing(store, SPACING)
    window = Window((3, 5, 7), (20, 30, 40))
    read, own = planned.read(window), store.read(window)
    assert (planned.shape, planned.grid, read.grid) == (SHAPE, store.grid, own.grid)
    assert read.array.dtype == np.int16
    np.testing.assert_array_equal(read.array, own.array)
    np.testing.assert_array_equal(read.valid, own.valid)
    np.testing.assert_array_equal(planned.read_valid(window), store.read_valid(window))
    np.testing.assert_array_equal(planned.read_truth(window), store.read_truth(window))
    np.testing.assert_array_equal(planned.normalised(window, SCALINGS), normalise(own, SCALINGS))


def test_windows_of_a_case_of_another_spacing_are_those_of_the_case_resampled(store):
    planned = PlannedVolume.at_spacing(store, (1.3, 1.3, 1.3))
    assert planned.shape == (62, 54, 51)
    volume, truth = scan()
    whole = Window.whole(planned.shape)
    image = resample_image(volume, planned.resampling, whole)
    truth = np.where(volume.valid, truth, np.uint8(255))
    labels = resample_labels(truth, planned.resampling, whole, 255)
    scaled = Volume(normalise(volume, SCALINGS), volume.grid, volume.valid)
    normal = resample_image(scaled, planned.resampling, whole).array
    for window in aligned_windows(planned.shape, (40, 33, 51)):
        read = planned.read(window)
        place = (slice(None), *window.slices)
        np.testing.assert_array_equal(read.array, image.array[place])
        assert read.grid == planned.grid.cropped(window)
        np.testing.assert_array_equal(planned.read_valid(window), image.valid[window.slices])
        np.testing.assert_array_equal(planned.read_truth(window), labels[window.slices])
        np.testing.assert_array_equal(planned.normalised(window, SCALINGS), normal[place])


def test_intensities_are_clipped_before_the_kernel_can_ring_around_them(tmp_path):
    volume, _ = scan()
    array = np.full_like(volume.array, 100)
    array[0, 20] = 3000  # metal
    metal = write(tmp_path / "metal.zarr", Volume(array, volume.grid), None)
    planned = PlannedVolume.at_spacing(metal, (1.0, 1.0, 1.0))
    whole = Window.whole(planned.shape)
    # Clipped, metal stands 50 above its neighbours: an eighth of that is the most the kernel rings.
    assert planned.normalised(whole, SCALINGS)[0].min() >= -50 / 20 / 8
    assert normalise(planned.read(whole), SCALINGS)[0].min() == (60 - 100) / 20


def test_the_numbers_of_a_regression_are_resampled_linearly_and_nan_where_unknown(tmp_path):
    volume, _ = scan()
    profile = np.arange(SHAPE[0], dtype=np.float32)
    profile[22:] += 100  # a step, at which a cubic kernel would ring
    heights = np.broadcast_to(profile[:, None, None], SHAPE).copy()
    heights[:, :, 60:] = np.nan
    path = tmp_path / "heights.zarr"
    planned = PlannedVolume.at_spacing(write(path, volume, heights, target="height"), (1, 1, 1))
    numbers = planned.read_truth(Window((30, 0, 0), (20, 70, 66)))
    known = np.ones((20, 70, 66), bool)
    known[:, :9] = known[:, :, 60:] = False
    np.testing.assert_array_equal(np.isfinite(numbers), known)
    expected = np.interp((np.arange(30, 50) + 0.5) / 2 - 0.5, np.arange(SHAPE[0]), profile)
    np.testing.assert_allclose(numbers[:, 30, 30], expected, rtol=1e-6)
    np.testing.assert_allclose(numbers[:, 9, 59], expected, rtol=1e-6)


def test_what_a_case_has_not_cannot_be_read(tmp_path, store):
    unlabelled = write(tmp_path / "a.zarr", scan()[0], None)
    with pytest.raises(StoreError, match="holds no truth mask"):
        PlannedVolume.at_spacing(unlabelled, (1, 1, 1)).read_truth(Window.whole((4, 4, 4)))
    with pytest.raises(GridError, match="give one of each for every axis"):
        PlannedVolume.at_spacing(store, (1, 1))
