"""The survey of masks reads every voxel once, in the order and pieces its format likes."""

import numpy as np
import pytest

from pipeline.init import values as reading
from pipeline.init.values import MOST_VALUES, distinct, holds_labels, values
from pipeline.io.origin import one_file
from pipeline.io.readers import open_source
from pipeline.io.readers.medical import inflated_voxels


@pytest.mark.parametrize(
    "array",
    [
        np.array([[0, 255], [7, 7]], np.uint8),
        np.array([[-3, 5], [-32768, 32767]], np.int16),
        np.array([[0, 2**31 - 1], [-(2**31), 3]], np.int32),
        np.array([[0.5, 0.5], [2.0, -1.0]], np.float32),
        np.array([[1]], np.uint16),
    ],
)
def test_distinct_values_are_those_of_numpy(array):
    assert distinct(array) == np.unique(array).tolist()


def test_nothing_has_no_values():
    assert distinct(np.empty((0, 3), np.uint8)) == distinct(np.empty(0, np.float32)) == []


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nii", "mask.tif", "mask.png"])
@pytest.mark.parametrize("memory", [1, 300, 2**20])
def test_a_mask_is_read_whole_whatever_fits_into_memory(
    tmp_path, monkeypatch, write_scan, write_scene, write_picture, name, memory
):
    monkeypatch.setattr(reading, "READ_BYTES", memory)
    monkeypatch.setattr(reading, "TILE", {2: (16, 16), 3: (4, 8, 8)})
    voxels = np.zeros((40, 50, 12), np.uint8)
    voxels[39, 49, 11], voxels[0, 0, 0], voxels[20, 25, 6] = 3, 5, 9
    match name.rpartition(".")[2]:
        case "tif":
            write_scene(tmp_path / name, voxels.max(axis=2)[None])
        case "png":
            write_picture(tmp_path / name, voxels.max(axis=2))
        case _:
            write_scan(tmp_path / name, voxels)
    found = values(open_source(tmp_path / name, "mask"), name)
    assert found.met.tolist() == [0, 3, 5, 9]


def test_a_stream_is_read_in_planes_and_in_order(tmp_path, monkeypatch, write_scan):
    monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
    monkeypatch.setattr(reading, "PLANES", 5)
    path = write_scan(tmp_path / "mask.nii.gz", np.zeros((20, 16, 12), np.uint8))
    source = open_source(path, "mask")
    assert source.sequential
    starts = [(w.start, w.shape) for w in reading.windows(source)]
    assert starts == [((0, 0, 0), (5, 16, 20)), ((5, 0, 0), (5, 16, 20)), ((10, 0, 0), (2, 16, 20))]


def test_what_holds_more_values_than_a_mask_is_left_at_once(tmp_path, monkeypatch, write_scan):
    monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
    monkeypatch.setattr(reading, "PLANES", 1)
    voxels = np.arange(40 * 50 * 12, dtype=np.int32).reshape(40, 50, 12)
    path = write_scan(tmp_path / "image.nii.gz", voxels)
    found = values(open_source(path, "mask"), "image.nii.gz")
    assert MOST_VALUES < len(found.met) <= 40 * 50


@pytest.mark.parametrize(
    ("array", "labels"),
    [
        (np.array([0, 1, np.nan]), True),
        (np.array([0.0, 0.5]), False),
        (np.full(9, np.nan), False),
        (np.arange(MOST_VALUES + 1.0), False),
    ],
)
def test_labels_are_few_whole_numbers(tmp_path, array, labels):
    np.save(tmp_path / "a.npy", np.resize(array, (8, 9)).astype(np.float32))
    assert holds_labels(one_file(tmp_path / "a.npy")) is labels
