"""Boxes of sharded arrays: what Zarr reads, and nothing of what is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec

from pipeline.io import store
from pipeline.io.layout import Layout
from pipeline.io.shards import Shards
from pipeline.space import Window

NAMES = ("c", "z", "y", "x")


def made(
    path: Path, shape: tuple[int, ...], layout: Layout, dtype: str, fill: Any
) -> zarr.Array[Any]:
    """An array as segflow makes them, some of its chunks and shards never written."""
    group = zarr.create_group(path)
    array = store.create_array(group, "a", shape, dtype, NAMES[-len(shape) :], fill, layout)
    rng = np.random.default_rng(0)
    unit = array.shards or array.chunks
    for place in np.ndindex(*(-(-n // u) for n, u in zip(shape, unit, strict=True))):
        if sum(place) % 3 == 2:
            continue
        box = tuple(slice(p * u, (p + 1) * u) for p, u in zip(place, unit, strict=True))
        values = rng.integers(0, 100, array[box].shape).astype(dtype)
        values[..., : array.chunks[-1]] = fill
        array[box] = values
    return array


KINDS = [
    ((50, 70, 60), Layout((16, 16, 16), (32, 32, 64)), "uint8", 255),
    ((3, 33, 64, 40), Layout((1, 16, 32, 16), (3, 32, 64, 48)), "int16", -1),
    ((200, 130), Layout((32, 64), (64, 128)), "float32", np.nan),
    ((90, 90), Layout((16, 16), (48, 96)), "bool", False),
    ((64, 64), Layout((64, 64), (64, 64)), "uint32", 0),
]


@pytest.mark.parametrize(("shape", "layout", "dtype", "fill"), KINDS, ids=lambda v: str(v)[:20])
def test_a_box_holds_what_zarr_reads(
    tmp_path: Path, shape: tuple[int, ...], layout: Layout, dtype: str, fill: Any
) -> None:
    array = made(tmp_path / "s.zarr", shape, layout, dtype, fill)
    assert Shards.of(array) is not None
    rng = np.random.default_rng(1)
    spatial = shape[-3:] if len(shape) == 4 else shape
    boxes = [Window.whole(spatial)]
    for _ in range(30):
        ends = [sorted(rng.integers(0, n + 1, 2)) for n in spatial]
        boxes.append(Window(tuple(int(a) for a, _ in ends), tuple(int(b - a) for a, b in ends)))
    for box in boxes:
        expected = np.asarray(array[(..., *box.slices)])
        found = store.read_window(array, box)
        assert found.dtype == expected.dtype and found.flags.writeable
        np.testing.assert_array_equal(found, expected)


def test_what_is_of_another_kind_is_left_to_zarr(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    plain = zarr.create_array(tmp_path / "plain", data=values, chunks=(4, 4))
    foreign = zarr.create_array(
        tmp_path / "foreign", data=values, chunks=(4, 4), shards=(8, 8), compressors=GzipCodec()
    )
    memory = zarr.create_array(
        {}, data=values, chunks=(4, 4), shards=(8, 8), compressors=store.CODECS
    )
    for array in (plain, foreign, memory):
        assert Shards.of(array) is None
        found = store.read_window(array, Window((1, 2), (6, 6)))
        np.testing.assert_array_equal(found, values[1:7, 2:8])


def the_file(array: zarr.Array[Any]) -> Path:
    files = Shards.of(array)
    assert files is not None
    return files.folder / "c" / "0" / "0"


@pytest.fixture
def array(tmp_path: Path) -> zarr.Array[Any]:
    return made(tmp_path / "s.zarr", (64, 64), Layout((16, 16), (64, 64)), "uint8", 255)


@pytest.mark.parametrize("place", [10, 100, -1, -5, -40, -270])
def test_a_flipped_bit_is_met(array: zarr.Array[Any], place: int) -> None:
    file = the_file(array)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"c/0/0 is damaged: a checksum does not match"):
        store.read_window(array, Window.whole((64, 64)))


@pytest.mark.parametrize("left", [0, 3, 100, 200, -1])
def test_a_file_that_is_cut_short_is_met(array: zarr.Array[Any], left: int) -> None:
    file = the_file(array)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"c/0/0 is (cut short: it has no index|damaged)"):
        store.read_window(array, Window.whole((64, 64)))


def test_a_damaged_chunk_costs_only_the_boxes_that_need_it(array: zarr.Array[Any]) -> None:
    file = the_file(array)
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    files = Shards.of(array)
    assert files is not None
    far = files.read((48, 48), (64, 64))
    np.testing.assert_array_equal(far, np.asarray(array[48:, 48:]))
