"""Arrays in HDF5, MATLAB, NumPy and Zarr, against the libraries that wrote them."""

import io
import json
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import zarr
from zarr.codecs import BloscCodec, GzipCodec

from pipeline.errors import CaseError
from pipeline.io.companion_store import Companion, CompanionWriter
from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.readers import case_id, format_suffix, open_source
from pipeline.io.readers.containers import room
from pipeline.space import Window, voxel_grid

RANDOM = np.random.default_rng(0)
VOXELS = RANDOM.integers(0, 60_000, (9, 14, 11), dtype=np.uint16)
BOX = Window((2, 3, 1), (5, 9, 10))


def whole(source):
    volume = source.read(Window.whole(source.grid.shape))
    assert (len(volume.array), volume.array.dtype) == (source.channels, source.dtype)
    return volume


class Evil:
    """What a pickle must never get to run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# One way to write each format: the same cases hold for all.


def write_npy(path, array):
    np.save(path, array)


def write_npy_fortran(path, array):
    np.save(path, np.asfortranarray(array))


def write_npz(path, array):
    np.savez(path, volume=array)


def write_npz_packed(path, array):
    np.savez_compressed(path, volume=array)


def write_h5(path, array):
    with h5py.File(path, "w") as file:
        file["volume"] = array


def write_h5_chunked(path, array):
    with h5py.File(path, "w") as file:
        chunks = tuple(min(5, n) for n in array.shape)
        file.create_dataset("group/volume", data=array, chunks=chunks, compression="gzip")


def write_zarr(path, array):
    chunks = tuple(min(5, n) for n in array.shape)
    zarr.create_array(path, data=array, chunks=chunks, compressors=GzipCodec())


def write_zarr_sharded(path, array):
    chunks = tuple(min(4, n) for n in array.shape)
    group = zarr.create_group(path)
    shards = tuple(2 * c for c in chunks)
    group.create_array("volume", data=array, chunks=chunks, shards=shards)


def write_zarr_v2(path, array):
    chunks = tuple(min(5, n) for n in array.shape)
    filters = [numcodecs.Shuffle(array.dtype.itemsize)]
    zarr.create_array(
        path,
        data=array,
        chunks=chunks,
        zarr_format=2,
        compressors=numcodecs.Zlib(),
        filters=filters,
    )


def _matlab(array):
    """The array in MATLAB's order: rows, columns, slices, channels."""
    return np.transpose(array, {2: (0, 1), 3: (1, 2, 0), 4: (2, 3, 1, 0)}[array.ndim])


def write_mat(path, array):
    scipy.io.savemat(path, {"volume": _matlab(array), "spacing": [0.1, 0.2, 0.3], "name": "x"})


def write_mat_packed(path, array):
    scipy.io.savemat(path, {"volume": _matlab(array)}, do_compression=True)


def write_mat_73(path, array):
    with h5py.File(path, "w", userblock_size=512) as file:
        kind = {"float64": "double", "float32": "single"}.get(array.dtype.name, array.dtype.name)
        file.create_dataset("volume", data=_matlab(array).T, chunks=True, compression="gzip")
        file["volume"].attrs["MATLAB_class"] = np.bytes_(kind)
        file["spacing"] = np.zeros((3, 1))
        file["name"] = np.zeros((1, 4), np.uint16)
        file["name"].attrs["MATLAB_class"] = np.bytes_("char")
        file["#refs#/hidden"] = np.zeros((4, 4))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")


WRITERS = [
    ("a.npy", write_npy),
    ("a.npy", write_npy_fortran),
    ("a.npz", write_npz),
    ("a.npz", write_npz_packed),
    ("a.h5", write_h5),
    ("a.hdf5", write_h5_chunked),
    ("a.zarr", write_zarr),
    ("a.zarr", write_zarr_sharded),
    ("a.zarr", write_zarr_v2),
    ("a.mat", write_mat),
    ("a.mat", write_mat_packed),
    ("a.mat", write_mat_73),
]
every_format = pytest.mark.parametrize(
    ("name", "write"), WRITERS, ids=lambda v: getattr(v, "__name__", v)
)


@every_format
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_a_volume_is_read_whole_and_in_windows(tmp_path, name, write, dtype):
    write(tmp_path / name, VOXELS.astype(dtype))
    source = open_source(tmp_path / name, "image")
    assert source.grid == voxel_grid(VOXELS.shape) and not source.placed and not source.sequential
    assert source.dtype == dtype and source.channels == 1 and len(source.block) == 3
    np.testing.assert_array_equal(whole(source).array[0], VOXELS.astype(dtype))
    part = source.read(BOX)
    np.testing.assert_array_equal(part.array[0], VOXELS.astype(dtype)[BOX.slices])
    assert part.grid == source.grid.cropped(BOX) and part.valid is None


@every_format
@pytest.mark.parametrize("shape", [(14, 11), (2, 9, 14, 11)])
def test_two_axes_are_a_picture_and_four_have_channels_first(tmp_path, name, write, shape):
    voxels = RANDOM.integers(0, 9, shape).astype(np.int16)
    write(tmp_path / name, voxels)
    source = open_source(tmp_path / name, "image")
    np.testing.assert_array_equal(
        whole(source).array, voxels.reshape(-1, *shape[-3:]) if len(shape) == 2 else voxels
    )
    assert source.grid.shape == shape[-3:]


@every_format
def test_floats_of_8_bytes_are_kept_in_4_and_nan_stays(tmp_path, name, write):
    voxels = VOXELS.astype(np.float64)
    voxels[0, 0, :3] = np.nan, np.inf, 1e300
    write(tmp_path / name, voxels)
    source = open_source(tmp_path / name, "image")
    assert source.dtype == np.float32
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(whole(source).array[0], voxels.astype(np.float32))


@every_format
def test_long_whole_numbers_are_kept_where_they_fit(tmp_path, name, write):
    labels = VOXELS.astype(np.int64) - 1
    write(tmp_path / name, labels)
    source = open_source(tmp_path / name, "mask")
    assert source.dtype == np.int32
    np.testing.assert_array_equal(whole(source).array[0], labels)


@pytest.mark.parametrize(("name", "write"), [WRITERS[0], WRITERS[5], WRITERS[6], WRITERS[9]])
def test_long_whole_numbers_that_do_not_fit_are_refused(tmp_path, name, write):
    write(tmp_path / name, np.full((4, 5, 6), 2**40))
    source = open_source(tmp_path / name, "mask")
    with pytest.raises(
        CaseError, match=rf"{name} holds whole numbers from 1099511627776 to .* Number"
    ):
        whole(source)


# MATLAB has a class of its own for them, and numcodecs shuffles none.
@pytest.mark.parametrize(
    ("name", "write"), [w for w in WRITERS if w[0] != "a.mat" and w[1] is not write_zarr_v2]
)
def test_truth_values_are_0_and_1(tmp_path, name, write):
    write(tmp_path / name, VOXELS > 30_000)
    source = open_source(tmp_path / name, "mask")
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(whole(source).array[0], VOXELS > 30_000)


@pytest.mark.parametrize(
    ("name", "write"), [WRITERS[0], WRITERS[1], WRITERS[3], WRITERS[4], WRITERS[6]]
)
def test_big_endian_numbers_become_native(tmp_path, name, write):
    write(tmp_path / name, VOXELS.astype(">u2"))
    source = open_source(tmp_path / name, "image")
    assert source.dtype == np.dtype("uint16")
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)


@pytest.mark.parametrize(("name", "write"), [w for w in WRITERS if w[0] != "a.mat"])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [((14, 11, 3), (3, 14, 11)), ((14, 11, 1), (1, 14, 11)), ((9, 14, 11, 2), (2, 9, 14, 11))],
)
def test_channels_may_stand_last_where_that_is_plain(tmp_path, name, write, shape, expected):
    voxels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    write(tmp_path / name, voxels)
    found = whole(open_source(tmp_path / name, "image")).array
    np.testing.assert_array_equal(found, np.moveaxis(voxels, -1, 0))
    assert found.shape == expected


@every_format
def test_threads_read_what_one_does(tmp_path, name, write):
    write(tmp_path / name, VOXELS)
    source = open_source(tmp_path / name, "image")
    boxes = [Window((z, y, 0), (2, 5, 11)) for z in range(7) for y in range(9)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda box: source.read(box).array[0], boxes))
    for box, array in zip(boxes, found, strict=True):
        np.testing.assert_array_equal(array, VOXELS[box.slices])


@every_format
@pytest.mark.parametrize("keep", [0.99, 0.6, 0.1, 0])
def test_a_torn_file_is_the_cases_fault(tmp_path, name, write, keep):
    write(tmp_path / name, VOXELS)
    path = tmp_path / name
    # Of a folder its largest file is torn, which is a chunk.
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    torn = max(files, key=lambda p: p.stat().st_size)
    content = torn.read_bytes()
    torn.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(CaseError, match=rf"{name} (cannot be read|holds no|is no MATLAB file)"):
        whole(open_source(path, "image"))


@every_format
def test_flipped_bytes_are_read_or_are_the_cases_fault(tmp_path, name, write):
    random = np.random.default_rng(7)
    path = tmp_path / name
    write(path, VOXELS)
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for _ in range(60):
        file = files[random.integers(len(files))]
        content = file.read_bytes()
        flipped = np.frombuffer(content, np.uint8).copy()
        ends = np.r_[random.integers(0, min(400, len(flipped)), 2), -random.integers(1, 200, 2)]
        flipped[ends.clip(-len(flipped))] = random.integers(0, 256, 4)
        file.write_bytes(flipped.tobytes())
        try:
            source = open_source(path, "image")
            source.read(Window.whole(source.grid.shape).clipped((4,) * len(source.grid.shape)))
        except CaseError:
            pass
        file.write_bytes(content)


CONTAINERS = {
    "a.h5": lambda path, arrays: [
        h5py.File(path, "a").create_dataset(n, data=a) for n, a in arrays.items()
    ],
    "a.npz": lambda path, arrays: np.savez_compressed(path, **arrays),
    "a.mat": lambda path, arrays: scipy.io.savemat(path, arrays),
    "a.zarr": lambda path, arrays: [zarr.create_array(path / n, data=a) for n, a in arrays.items()],
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_of_several_arrays_one_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "a.zarr":
        zarr.create_group(path)
    CONTAINERS[name](path, {"raw": VOXELS[0], "label": VOXELS[1]})
    np.testing.assert_array_equal(whole(open_source(path, "image", "raw")).array[0], VOXELS[0])
    np.testing.assert_array_equal(whole(open_source(path, "mask", "label")).array[0], VOXELS[1])
    listed = r"holds several arrays \((raw, label|label, raw)\): one is to be named. Name it behind"
    with pytest.raises(CaseError, match=listed):
        open_source(path, "image")
    with pytest.raises(CaseError, match=r"holds (no array other, but|nothing named other)"):
        open_source(path, "image", "other")


def test_suffixes_of_containers_are_known():
    assert format_suffix(Path("a.ome.zarr")) == ".zarr" and case_id(Path("a.H5")) == "a"


def test_an_item_of_a_format_without_items_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", VOXELS)
    with pytest.raises(
        CaseError, match=r"a.npy is one array: there is no raw in it. Leave ::raw out"
    ):
        open_source(tmp_path / "a.npy", "image", "raw")


@pytest.mark.parametrize(
    ("name", "write", "dtype"),
    [
        ("a.npy", write_npy, "complex64"),
        ("a.npy", write_npy, "U3"),
        ("a.npz", write_npz_packed, "U3"),
        ("a.h5", write_h5, "complex64"),
        ("a.zarr", write_zarr, "complex64"),
        ("a.zarr", write_zarr_sharded, "complex64"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path, name, write, dtype):
    write(tmp_path / name, VOXELS.astype(dtype))
    with pytest.raises(CaseError, match=rf"{name} holds (elements of type|no array of numbers)"):
        open_source(tmp_path / name, "image")


# NumPy


def header_of(shape, descr="<u2", version=b"\x01\x00"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape", [(10**6, 10**6, 10**6), (2**40, 2**40), (-5, 4, 4), (0, 4, 4), (10**30, 4)]
)
def test_a_npy_header_that_claims_too_much_is_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header_of(shape) + bytes(64))
    with pytest.raises(CaseError, match=r"a.npy (cannot be read|has an array of shape)"):
        open_source(tmp_path / "a.npy", "image")


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    array = np.array([[Evil(tmp_path / "ran")]], dtype=object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(CaseError, match=rf"{name} holds pickled Python objects: opening them"):
            open_source(tmp_path / name, "image")
    assert not (tmp_path / "ran").exists()


def test_a_plain_npz_is_mapped_where_it_lies(tmp_path):
    np.savez(tmp_path / "a.npz", volume=VOXELS)
    found = open_source(tmp_path / "a.npz", "image").read(Window.whole(VOXELS.shape)).array
    base = found
    while not isinstance(base, np.memmap):
        base = base.base
    np.testing.assert_array_equal(found[0], VOXELS)


def test_a_large_packed_npz_is_inflated_into_a_file_and_leaves_none_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    np.savez_compressed(tmp_path / "a.npz", volume=VOXELS)
    source = open_source(tmp_path / "a.npz", "image")
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_disk_without_room_is_told_before_it_is_full(tmp_path):
    huge = 2**62
    with pytest.raises(CaseError, match=rf"a.npz needs {huge} bytes of temporary space, which"):
        room.make_room(tmp_path / "a.npz", huge)


def test_a_npz_that_claims_more_than_deflate_packs_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", volume=np.zeros((64, 64), np.uint8))
    content = (tmp_path / "a.npz").read_bytes()
    true = struct.pack("<I", 64 * 64 + 128)
    assert content.count(true) >= 1
    (tmp_path / "a.npz").write_bytes(content.replace(true, struct.pack("<I", 2**31)))
    with pytest.raises(CaseError, match=r"a.npz cannot be read.*bytes claim to hold 2147483648"):
        open_source(tmp_path / "a.npz", "image")


def test_a_npz_of_another_packing_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, VOXELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("volume.npy", buffer.getvalue())
    with pytest.raises(
        CaseError, match=r"a.npz packs volume.npy in a way that numpy does not. Save"
    ):
        open_source(tmp_path / "a.npz", "image")


# HDF5


def test_a_scale_in_micrometres_is_kept(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["raw"].attrs["element_size_um"] = [0.25, 0.1, 0.2]
    source = open_source(tmp_path / "a.h5", "image")
    np.testing.assert_allclose(source.grid.spacing, (2.5e-4, 1e-4, 2e-4))
    assert source.grid.unit == "millimeter" and not source.placed


def test_axes_that_ilastik_tagged_are_taken_by_name(tmp_path):
    voxels = RANDOM.integers(0, 9, (1, 5, 6, 7, 2), dtype=np.uint8)
    tags = {"axes": [{"key": key, "typeFlags": 2} for key in "tzyxc"]}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = voxels
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    found = whole(open_source(tmp_path / "a.h5", "image")).array
    np.testing.assert_array_equal(found, np.moveaxis(voxels[0], -1, 0))


def test_blocks_are_chunks_and_of_unchunked_arrays_their_rows(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunked", data=VOXELS, chunks=(2, 7, 5))
        file.create_dataset("plain", data=VOXELS)
    assert open_source(tmp_path / "a.h5", "image", "chunked").block == (2, 7, 5)
    assert open_source(tmp_path / "a.h5", "image", "plain").block == (1, 1, 11)


def test_no_link_leads_out_of_a_file(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = VOXELS
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["outside"] = h5py.ExternalLink("other.h5", "/raw")
        file["group/deep"] = h5py.ExternalLink("other.h5", "/")
        file["soft"] = h5py.SoftLink("/group/deep/raw")
        layout = h5py.VirtualLayout(VOXELS.shape, VOXELS.dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "raw", VOXELS.shape)
        file.create_virtual_dataset("virtual", layout)
        raw = [(str(tmp_path / "other.h5"), 0, 64)]
        file.create_dataset("external", (4, 8), "u2", external=raw)
    met = {
        "outside": "a.h5 links outside to another file. Copy the dataset",
        "group/deep/raw": "a.h5 links group/deep/raw to another file",
        "soft": "a.h5 links soft to /group/deep/raw: a dataset is named by its own path",
        "virtual": "a.h5 keeps the voxels of /virtual in other files. Copy the dataset",
        "external": "a.h5 keeps the voxels of /external in other files",
        "../other.h5": "a.h5 holds no array ../other.h5, but",
    }
    for item, message in met.items():
        with pytest.raises(CaseError, match=message):
            open_source(tmp_path / "a.h5", "image", item)


def test_a_chunk_that_claims_more_than_its_bytes_hold_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": (1000, 1000, 1000), "compression": "gzip"}
        file.create_dataset("raw", (1000, 1000, 1000), "u1", **options)
    with pytest.raises(CaseError, match=r"a.h5 claims 1000000000 bytes in a block of 0: it is dam"):
        open_source(tmp_path / "a.h5", "image")


# MATLAB


def test_an_oct_scan_and_its_drawing_agree_in_both_versions_of_the_format(tmp_path):
    scan = RANDOM.integers(0, 256, (49, 76, 6), dtype=np.uint8)
    fluid = np.where(RANDOM.random(scan.shape) > 0.9, 1.0, 0.0)
    fluid[:, :, 2] = np.nan
    scipy.io.savemat(
        tmp_path / "v5.mat", {"images": scan, "manualFluid1": fluid}, do_compression=True
    )
    with h5py.File(tmp_path / "v73.mat", "w") as file:
        for name, array in (("images", scan), ("manualFluid1", fluid)):
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("uint8" if array is scan else "double")
    for name in ("v5.mat", "v73.mat"):
        image = open_source(tmp_path / name, "image", "images")
        mask = open_source(tmp_path / name, "mask", "manualFluid1")
        assert image.grid == mask.grid == voxel_grid((6, 49, 76))
        np.testing.assert_array_equal(whole(image).array[0], scan.transpose(2, 0, 1))
        np.testing.assert_array_equal(whole(mask).array[0], fluid.transpose(2, 0, 1))
        assert mask.dtype == np.float32


def test_whole_numbers_in_a_double_array_stay_floats(tmp_path):
    # MATLAB stores them in bytes.
    content = {"volume": (VOXELS % 4).astype(np.float64)}
    scipy.io.savemat(tmp_path / "a.mat", content)
    raw = bytearray((tmp_path / "a.mat").read_bytes())
    place = raw.index(struct.pack("<2I", 9, VOXELS.size * 8))
    packed = (VOXELS % 4).astype(np.uint8).tobytes(order="F")
    padded = packed + bytes(-len(packed) % 8)
    raw[place:] = struct.pack("<2I", 2, len(packed)) + padded
    struct.pack_into("<I", raw, 132, len(raw) - 136)
    (tmp_path / "a.mat").write_bytes(raw)
    source = open_source(tmp_path / "a.mat", "image")
    expected = scipy.io.loadmat(tmp_path / "a.mat")["volume"].transpose(2, 0, 1)
    assert source.dtype == np.float32
    np.testing.assert_array_equal(whole(source).array[0], expected)


def test_a_matlab_picture_has_its_colours_last(tmp_path):
    colour = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "a.mat", {"rgb": colour})
    found = whole(open_source(tmp_path / "a.mat", "image")).array
    np.testing.assert_array_equal(found, colour.transpose(2, 0, 1))


def test_tables_cells_complex_and_sparse_arrays_are_passed_over(tmp_path):
    content = {
        "table": {"field": VOXELS},
        "cells": np.array([[VOXELS, 1]], dtype=object),
        "text": np.array([["ab", "cd"], ["ef", "gh"]]),
        "waves": VOXELS.astype(np.complex128),
        "sparse": scipy.sparse.eye(9).tocsc(),
        "logical": VOXELS[0] > 9,
    }
    scipy.io.savemat(tmp_path / "a.mat", content)
    source = open_source(tmp_path / "a.mat", "mask")
    assert source.dtype == np.uint8
    np.testing.assert_array_equal(whole(source).array[0], VOXELS[0] > 9)
    for name in ("table", "cells", "text", "waves", "sparse"):
        with pytest.raises(CaseError, match=rf"a.mat holds no array {name}, but logical"):
            open_source(tmp_path / "a.mat", "mask", name)


def test_big_endian_matlab_files_are_read(tmp_path):
    text = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    numbers = VOXELS.astype(">u2").tobytes(order="F")
    padded = numbers + bytes(-len(numbers) % 8)
    body = struct.pack(">4I", 6, 8, 11, 0) + struct.pack(">2I3i4x", 5, 12, *VOXELS.shape)
    body += struct.pack(">2I8s", 1, 6, b"volume") + struct.pack(">2I", 4, len(numbers)) + padded
    (tmp_path / "a.mat").write_bytes(text + struct.pack(">2I", 14, len(body)) + body)
    expected = scipy.io.loadmat(tmp_path / "a.mat")["volume"]
    np.testing.assert_array_equal(expected, VOXELS)
    found = whole(open_source(tmp_path / "a.mat", "image")).array[0]
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))


def test_files_of_matlab_4_are_refused_with_what_to_do(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"volume": VOXELS[0]}, format="4")
    with pytest.raises(
        CaseError, match=r"a.mat is no MATLAB file of version 5 to 7.3. Save it in MA"
    ):
        open_source(tmp_path / "a.mat", "image")


# Zarr


def ome_zarr(path, voxels, axes, scale, shift=None, version="0.4", units="micrometer"):
    """Write an OME-Zarr image by hand, as the specification words it."""
    kinds = {"t": "time", "c": "channel"}
    described = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": units} if a in "zyx" else {})
        for a in axes
    ]
    steps = [{"type": "scale", "scale": scale}]
    steps += [] if shift is None else [{"type": "translation", "translation": shift}]
    datasets = [{"path": "0", "coordinateTransformations": steps}, {"path": "1"}]
    entry = {"multiscales": [{"version": version, "axes": described, "datasets": datasets}]}
    kind = 2 if version == "0.4" else 3
    attributes = entry if kind == 2 else {"ome": {"version": version, **entry}}
    group = zarr.create_group(path, zarr_format=kind, attributes=attributes)
    options = {"compressors": numcodecs.Blosc() if kind == 2 else BloscCodec()}
    group.create_array("0", data=voxels, chunks=tuple(min(4, n) for n in voxels.shape), **options)
    group.create_array("1", data=voxels[..., ::2], **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "czyx", "zcyx", "tczyx", "cyx", "yx"])
def test_ome_zarr_is_the_full_size_level_with_its_axes_and_scale(tmp_path, version, axes):
    sizes = {"t": 1, "c": 2, "z": 5, "y": 6, "x": 7}
    lengths = {"t": 1.0, "c": 1.0, "z": 0.5, "y": 0.25, "x": 0.125}
    voxels = RANDOM.integers(0, 9, [sizes[a] for a in axes], dtype=np.uint16)
    ome_zarr(tmp_path / "a.ome.zarr", voxels, axes, [lengths[a] for a in axes], version=version)
    source = open_source(tmp_path / "a.ome.zarr", "image")
    order = "".join(a for a in "czyx" if a in axes)
    expected = np.einsum(f"{axes}->{order}", voxels)
    found = whole(source).array
    np.testing.assert_array_equal(found, expected if "c" in axes else expected[None])
    space = [a for a in "zyx" if a in axes]
    np.testing.assert_allclose(source.grid.spacing, [lengths[a] / 1000 for a in space])
    assert source.grid.unit == "millimeter" and not source.placed
    assert source.block == tuple(min(4, sizes[a]) for a in space)


def test_a_translation_places_an_ome_zarr_image(tmp_path):
    scale, shift = [2.0, 1.0, 0.5], [10.0, 20.0, 30.0]
    ome_zarr(tmp_path / "a.zarr", VOXELS, "zyx", scale, shift, units="millimeter")
    source = open_source(tmp_path / "a.zarr", "image")
    assert source.placed
    np.testing.assert_allclose(source.grid.index_to_world((1, 2, 3)), (31.5, 22.0, 12.0))


def test_an_ome_zarr_scale_without_a_unit_keeps_the_proportions(tmp_path):
    ome_zarr(tmp_path / "a.zarr", VOXELS, "zyx", [2.0, 1.0, 1.0], units="furlong")
    grid = open_source(tmp_path / "a.zarr", "image").grid
    assert grid.spacing == (2.0, 1.0, 1.0) and grid.unit is None


def test_time_points_of_ome_zarr_are_refused(tmp_path):
    ome_zarr(tmp_path / "a.zarr", VOXELS, "tyx", [1.0, 1.0, 1.0])
    with pytest.raises(CaseError, match=r"a.zarr has 9 entries on its axis t: one volume is expec"):
        open_source(tmp_path / "a.zarr", "image")


def test_named_dimensions_need_no_rule(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=VOXELS, dimension_names=["band", "lat", "lon"])
    assert open_source(tmp_path / "a.zarr", "image").channels == 9
    array = zarr.create_array(tmp_path / "b.zarr", data=VOXELS, zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x", "channel"]
    assert open_source(tmp_path / "b.zarr", "image").channels == 11


def test_an_image_inside_a_larger_folder_is_named_by_its_path(tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    ome_zarr(tmp_path / "a.zarr" / "em" / "raw", VOXELS, "zyx", [1.0] * 3, version="0.5")
    ome_zarr(tmp_path / "a.zarr" / "labels", VOXELS // 2, "zyx", [1.0] * 3, version="0.5")
    zarr.create_group(tmp_path / "a.zarr" / "em")
    found = whole(open_source(tmp_path / "a.zarr", "image", "em/raw")).array[0]
    np.testing.assert_array_equal(found, VOXELS)
    with pytest.raises(CaseError, match=r"holds several arrays \(em/raw, labels\): one is to be"):
        open_source(tmp_path / "a.zarr", "image")


def test_segflows_own_masks_are_sources_where_they_are_complete(tmp_path):
    grid = voxel_grid(VOXELS.shape)
    spec = MaskSpec(grid, (LabelClass(0, "none", True), LabelClass(1, "some")), "key", {})
    labels = (VOXELS % 2).astype(np.uint8)
    labels[0, 0] = 255
    writer = MaskWriter.create(tmp_path / "a.zarr", spec)
    for window in mask_windows(VOXELS.shape, "uint8"):
        writer.write(window, labels[window.slices])
    shutil.copytree(tmp_path / ".a.zarr.partial", tmp_path / "b.zarr")
    with pytest.raises(CaseError, match=r"b.zarr is a segflow store that is not complete. Run the"):
        open_source(tmp_path / "b.zarr", "mask")
    writer.finish()
    volume = whole(open_source(tmp_path / "a.zarr", "mask"))
    np.testing.assert_array_equal(volume.array[0], labels)
    np.testing.assert_array_equal(volume.valid, labels != 255)
    objects = CompanionWriter.create(Companion.objects(), tmp_path / "objects/a.zarr", spec)
    objects.finish()
    with pytest.raises(CaseError, match="is a segflow store of objects, not of images or masks"):
        open_source(tmp_path / "objects/a.zarr", "mask")


@pytest.mark.parametrize("item", ["../other.zarr", "inside/../../other.zarr", "link"])
def test_no_name_leads_out_of_a_zarr_folder(tmp_path, item):
    zarr.create_array(tmp_path / "other.zarr", data=VOXELS)
    zarr.create_group(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "link").symlink_to(tmp_path / "other.zarr")
    with pytest.raises(
        CaseError, match=r"a.zarr names .*, which lies outside of it. Copy the array"
    ):
        open_source(tmp_path / "a.zarr", "image", item)


def test_no_level_of_ome_zarr_leads_out_of_its_folder(tmp_path):
    zarr.create_array(tmp_path / "other.zarr", data=VOXELS)
    ome_zarr(tmp_path / "a.zarr", VOXELS, "zyx", [1.0] * 3)
    text = (tmp_path / "a.zarr" / ".zattrs").read_text()
    moved = text.replace('"path": "0"', '"path": "../other.zarr"')
    assert moved != text
    (tmp_path / "a.zarr" / ".zattrs").write_text(moved)
    with pytest.raises(CaseError, match=r"a.zarr names /../other.zarr, which lies outside of it"):
        open_source(tmp_path / "a.zarr", "image")


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_zarr_codec_that_unpickles_is_never_run(tmp_path, place):
    array = zarr.create_array(tmp_path / "a.zarr", data=VOXELS[0], zarr_format=2, compressors=None)
    described = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())
    pickling = {"id": "pickle", "protocol": 2}
    shuffle = {"id": "shuffle", "elementsize": 2}
    described[place] = [shuffle, pickling] if place == "filters" else pickling
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(described))
    for chunk in (tmp_path / "a.zarr").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    assert array.ndim == 2
    with pytest.raises(CaseError, match=r"a.zarr (is packed with pickle|cannot be read)"):
        whole(open_source(tmp_path / "a.zarr", "image"))
    assert not (tmp_path / "ran").exists()


def test_a_zarr_array_that_was_never_written_is_no_image_but_an_empty_mask(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(9, 9, 9), dtype="u1", chunks=(4, 4, 4))
    with pytest.raises(
        CaseError, match=r"a.zarr holds no voxel: none of its chunks is written. Copy"
    ):
        open_source(tmp_path / "a.zarr", "image")
    assert not whole(open_source(tmp_path / "a.zarr", "mask")).array.any()


@pytest.mark.parametrize(
    ("shape", "chunks", "message"),
    [
        ((10**5, 10**5, 10**5), (64, 64, 64), "has an array of shape"),
        ((4000, 4000, 4000), (4000, 4000, 4000), "has chunks of 64000000000 bytes"),
    ],
)
def test_zarr_metadata_that_claim_too_much_are_refused(tmp_path, shape, chunks, message):
    zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="u1", chunks=chunks)
    (tmp_path / "a.zarr" / "c").mkdir()
    with pytest.raises(CaseError, match=f"a.zarr {message}"):
        open_source(tmp_path / "a.zarr", "image")
