"""Stores: metadata first, whole shards, published whole."""

import numpy as np
import pytest
import zarr

from pipeline.errors import StoreError
from pipeline.io import store
from pipeline.io.downsample import downsample
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.patch_store import (
    Patch,
    PatchSpec,
    PatchStore,
    create_patches,
    publish_patches,
    write_patches,
)
from pipeline.io.volume_store import VolumeStore, label_dtype, no_label
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.space import Volume, Window, crop, voxel_grid

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "cell"))


def mask_spec(shape, key="key"):
    return MaskSpec(voxel_grid(shape), CLASSES, key, {"model": {"id": "m"}, "run": "test"})


def write_mask(path, labels, key="key"):
    writer = MaskWriter.create(path, mask_spec(labels.shape, key))
    for window in mask_windows(labels.shape, "uint8"):
        MaskWriter(path).write(window, labels[window.slices])
    writer.finish()


def write_volume(path, volume, truth, key="key"):
    spec = VolumeSpec(
        volume.grid,
        str(volume.array.dtype),
        tuple(str(c) for c in range(len(volume.array))),
        CLASSES if truth is not None else None,
    )
    writer = VolumeWriter(path, spec)
    for window in writer.windows():
        labels = None if truth is None else truth[window.slices]
        writer.write(window, crop(volume, window), labels)
    writer.finish({"valid_voxels": 1}, key, [{"path": "a.png", "role": "image", "sha256": "ab"}])


def noise(shape, channels=2, seed=0):
    random = np.random.default_rng(seed)
    array = random.normal(size=(channels, *shape)).astype(np.float32)
    valid = random.random(shape) < 0.8
    return Volume(array, voxel_grid(shape), valid), random.integers(0, 2, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(70, 65, 130), (600, 700)])
def test_a_volume_comes_back_as_it_was_written(tmp_path, shape):
    volume, truth = noise(shape)
    write_volume(tmp_path / "a.zarr", volume, truth)
    read = VolumeStore(tmp_path / "a.zarr")
    whole = read.read(Window.whole(shape))
    np.testing.assert_array_equal(whole.array, volume.array)
    np.testing.assert_array_equal(whole.valid, volume.valid)
    assert whole.grid == read.grid == volume.grid
    assert (read.key, read.labelled, read.dtype) == ("key", True, np.float32)
    expected = np.where(volume.valid, truth, 255)
    np.testing.assert_array_equal(read.read_truth(Window.whole(shape)), expected)


def test_a_volume_without_truth_says_so(tmp_path):
    volume, _ = noise((9, 9))
    write_volume(tmp_path / "a.zarr", volume, None)
    read = VolumeStore(tmp_path / "a.zarr")
    assert not read.labelled
    with pytest.raises(StoreError, match="holds no truth mask: only labelled cases have one"):
        read.read_truth(Window.whole((9, 9)))


def test_a_mask_comes_back_as_it_was_written_with_its_provenance(tmp_path):
    labels = np.random.default_rng(0).choice([0, 1, 255], (600, 1100)).astype(np.uint8)
    write_mask(tmp_path / "a.zarr", labels)
    read = MaskStore(tmp_path / "a.zarr")
    parts = np.full(labels.shape, 9, np.uint8)
    for window in read.windows():
        parts[window.slices] = read.read(window)
    np.testing.assert_array_equal(parts, labels)
    assert read.attributes["status"] == "complete"
    assert read.attributes["classes"] == {"background": 0, "cell": 1}
    assert read.attributes["run"] == "test" and read.attributes["nodata"] == 255
    np.testing.assert_array_equal(read.overview(), labels)  # small enough to be read whole


def test_many_classes_need_two_bytes():
    classes = tuple(LabelClass(i, f"c{i}") for i in range(300))
    assert len(mask_windows((10, 10), label_dtype(len(classes)))) == 1
    assert no_label("uint16") == 65535


@pytest.mark.parametrize("weighted", [False, True])
def test_patches_come_back_and_part_of_a_shard_is_refused(tmp_path, weighted):
    random = np.random.default_rng(0)
    spec = PatchSpec(5, 2, (8, 9), label_dtype="uint8", weighted=weighted, key="key")
    made = [
        Patch(
            random.normal(size=(2, 8, 9)).astype(np.float16),
            random.integers(0, 3, (8, 9), dtype=np.uint8),
            random.uniform(size=(8, 9)).astype(np.float16) if weighted else None,
        )
        for _ in range(5)
    ]
    create_patches(tmp_path / "p.zarr", spec)
    with pytest.raises(StoreError, match=r"patches 0..3 are not whole shards of 5: plan them"):
        write_patches(tmp_path / "p.zarr", range(3), made[:3])
    for numbers in spec.shards:
        write_patches(tmp_path / "p.zarr", numbers, made[numbers.start : numbers.stop])
    publish_patches(tmp_path / "p.zarr", {"note": 1})
    read = PatchStore(tmp_path / "p.zarr")
    assert len(read) == 5 and read.attributes["note"] == 1
    for number, patch in enumerate(made):
        found = read.read(number)
        np.testing.assert_array_equal(found.image, patch.image)
        np.testing.assert_array_equal(found.label, patch.label)
        assert (found.weight is None) != weighted
        if weighted:
            np.testing.assert_array_equal(found.weight, patch.weight)


@pytest.mark.parametrize(
    ("start", "shape"), [((0, 256), (512, 256)), ((0, 0), (512, 300)), ((512, 0), (80, 512))]
)
def test_a_window_that_shares_a_shard_is_refused_before_the_first_write(tmp_path, start, shape):
    writer = MaskWriter.create(tmp_path / "a.zarr", mask_spec((600, 700)))
    with pytest.raises(StoreError, match=r"shards are \(512, 512\): write windows start and end"):
        writer.write(Window(start, shape), np.ones(shape, np.uint8))
    array = zarr.open_array(store.partial_path(tmp_path / "a.zarr") / "0" / "mask", mode="r")
    assert (array[:] == 255).all()


def test_in_a_sharded_mask_a_whole_chunk_is_no_write_window(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (4200, 4700), dtype=np.uint8)
    write_mask(tmp_path / "a.zarr", labels)
    read = MaskStore(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read.read(Window.whole(labels.shape)), labels)
    writer = MaskWriter.create(tmp_path / "b.zarr", mask_spec(labels.shape))
    with pytest.raises(StoreError, match=r"shards are \(4096, 5120\)"):
        writer.write(Window((0, 0), (512, 512)), labels[:512, :512])


def test_values_must_fill_their_window(tmp_path):
    writer = MaskWriter.create(tmp_path / "a.zarr", mask_spec((600, 700)))
    with pytest.raises(StoreError, match=r"\(512, 9\) values were given for a window of"):
        writer.write(Window((0, 0), (512, 512)), np.ones((512, 9), np.uint8))


def test_nothing_stands_at_the_final_path_before_the_end(tmp_path):
    path = tmp_path / "a.zarr"
    writer = MaskWriter.create(path, mask_spec((20, 20)))
    writer.write(Window.whole((20, 20)), np.ones((20, 20), np.uint8))
    assert not path.exists()
    assert (store.partial_key(path), store.published_key(path)) == ("key", None)
    writer.finish()
    assert (store.partial_key(path), store.published_key(path)) == (None, "key")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_publishing_replaces_the_earlier_store_whole(tmp_path, tree):
    write_mask(tmp_path / "a.zarr", np.zeros((600, 700), np.uint8), key="old")
    write_mask(tmp_path / "a.zarr", np.ones((20, 20), np.uint8), key="new")
    write_mask(tmp_path / "b" / "a.zarr", np.ones((20, 20), np.uint8), key="new")
    assert MaskStore(tmp_path / "a.zarr").key == "new"
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b" / "a.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b"]


def test_litter_of_a_killed_writer_is_swept_away(tmp_path):
    writer = MaskWriter.create(tmp_path / "a.zarr", mask_spec((20, 20)))
    litter = store.partial_path(tmp_path / "a.zarr") / "0" / "mask" / "c.0af.partial"
    litter.write_bytes(b"half")
    writer.finish()
    assert not list((tmp_path / "a.zarr").rglob("*.partial"))


def test_an_absent_store_is_named_with_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"there is no store at .*a.zarr: run the stage"):
        MaskStore(tmp_path / "a.zarr")


def test_an_unfinished_or_other_store_is_not_opened(tmp_path):
    MaskWriter.create(tmp_path / "a.zarr", mask_spec((20, 20)))
    unfinished = store.partial_path(tmp_path / "a.zarr")
    with pytest.raises(StoreError, match=r"with status 'writing': expected a complete mask store"):
        MaskStore(unfinished)
    write_mask(tmp_path / "b.zarr", np.zeros((9, 9), np.uint8))
    with pytest.raises(StoreError, match=r"is a mask store with .*: expected a complete volume"):
        VolumeStore(tmp_path / "b.zarr")
    zarr.create_group(tmp_path / "c.zarr")
    with pytest.raises(StoreError, match=r"is a foreign store with status 'unknown'"):
        MaskStore(tmp_path / "c.zarr")


@pytest.mark.parametrize("reduce", ["mean", "mode"])
@pytest.mark.parametrize("factors", [(2, 2), (1, 2), (2, 2, 2), (1, 2, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_downsampling_equals_brute_force(reduce, factors, dtype):
    random = np.random.default_rng(0)
    shape = tuple(4 * f for f in factors)
    values = random.integers(0, 4, (3, *shape)).astype(dtype)
    found = downsample(values, factors, reduce)
    for index in np.ndindex(3, *(4,) * len(factors)):
        box = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index[1:], factors, strict=True))
        block = values[(index[0], *box)].ravel().tolist()
        mean = np.mean(block) if dtype == "float32" else np.rint(np.mean(block))
        # max() takes the first of equals, as documented.
        expected = mean if reduce == "mean" else max(block, key=block.count)
        assert found[index] == expected


def test_the_mean_leaves_missing_values_out():
    values = np.array([[np.nan, 2, np.nan, np.nan], [4, np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(downsample(values, (2, 2), "mean"), [[3, np.nan]])


def test_pyramid_levels_of_odd_sizes_stand_on_the_levels_above(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (601, 1301), dtype=np.uint8)
    write_mask(tmp_path / "a.zarr", labels)
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    padded = np.pad(labels, ((0, 1), (0, 1)), mode="edge")
    np.testing.assert_array_equal(root["1/mask"][:], downsample(padded, (2, 2), "mode"))
    assert [root[f"{n}/mask"].shape for n in range(3)] == [(601, 1301), (301, 651), (151, 326)]


def test_equal_keys_give_equal_bytes(tmp_path, tree):
    volume, truth = noise((70, 65, 66))
    for name in "ab":
        write_volume(tmp_path / name / "case.zarr", volume, truth)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
