"""Numbers as truth and as masks: from files through ingest to stores, and seen by other readers."""

import json
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import rasterio
import rioxarray
import xarray
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.image import Image
from pydantic import ValidationError

from pipeline.errors import StoreError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import evidence
from pipeline.ingest.evidence import full_evidence, store_key
from pipeline.init import init
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.downsample import downsample
from pipeline.io.manifest import SourceFile
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.origin import one_file
from pipeline.io.readers import open_source
from pipeline.io.truth import Numbers
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.space import Volume, Window, voxel_grid
from pipeline.statistics import POSITIONS, CaseStatistics
from tests.regression.heights import make_heights, truth_of

assert rioxarray  # registers ``.rio``
rioxarray_warns = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SHAPE = (96, 112)
WHOLE = Window.whole(SHAPE)


@pytest.fixture
def taken(tmp_path, write_scene, take_in):
    taken = take_in(make_heights(tmp_path / "data", write_scene), tmp_path)
    assert not taken.refused and len(taken.complete) == 6
    return taken


# Ingest


@pytest.mark.parametrize("number", [0, 1])
def test_the_truth_is_the_masks_numbers_and_nan_where_they_or_the_image_say_nothing(taken, number):
    store = VolumeStore(taken.volumes / f"tile_{number}.zarr")
    assert store.labelled and store.target == "height"
    truth = store.read_truth(WHOLE)
    assert truth.dtype == np.float32
    np.testing.assert_array_equal(truth, truth_of(number))
    part = Window((50, 60), (46, 52))
    np.testing.assert_array_equal(store.read_truth(part), truth_of(number)[part.slices])
    np.testing.assert_array_equal(store.truth_overview(), truth_of(number))


def test_statistics_are_those_of_the_numbers(taken):
    found = VolumeStore(taken.volumes / "tile_3.zarr").statistics
    truth = truth_of(3)
    numbers = truth[np.isfinite(truth)].astype(np.float64)
    assert found["class_voxels"] == [len(numbers)] and found["foreground"] == []
    target = found["target"]
    assert (target["count"], target["infinite"]) == (len(numbers), 0)
    assert (target["min"], target["max"]) == (numbers.min(), numbers.max())
    assert target["mean"] == pytest.approx(numbers.mean(), rel=1e-12)
    assert target["std"] == pytest.approx(numbers.std(), rel=1e-12)
    [positions] = found["positions"]
    assert len(positions) == POSITIONS == len(set(map(tuple, positions)))
    assert np.isfinite(truth[tuple(np.array(positions).T)]).all()


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64"]
)
def test_masks_of_any_type_are_numbers(dtype):
    values = np.array([[0, 1, 7], [9, 100, 7]]).astype(dtype)
    truth = Numbers((7,)).truth(values)
    expected = values.astype(np.float32)
    expected[expected == 7] = np.nan
    assert truth.dtype == np.float32
    np.testing.assert_array_equal(truth, expected)


def test_what_is_not_told_is_nan_and_what_float32_cannot_hold_is_infinite():
    values = np.array([1.5, np.nan, np.inf, 1e300, -1e300, 4.0])
    told = np.array([True, True, True, True, True, False])
    found = Numbers(()).truth(values, told)
    np.testing.assert_array_equal(found, [1.5, np.nan, np.inf, np.inf, -np.inf, np.nan])


def test_the_largest_float_may_be_ignored_by_its_whole_number():
    least = np.finfo(np.float32).min
    found = Numbers((int(least),)).truth(np.array([least, 1], np.float32))
    np.testing.assert_array_equal(found, [np.nan, 1])


def test_infinity_is_no_truth_and_counted(tmp_path, write_scene, take_in):
    data = make_heights(tmp_path / "data", write_scene, cases=1)
    path = tmp_path / "data" / "heights" / "tile_0.tif"
    with rasterio.open(path, "r+") as file:
        heights = file.read(1)
        heights[40:42, 40:45] = np.inf
        file.write(heights, 1)
    store = VolumeStore(take_in(data, tmp_path).volumes / "tile_0.zarr")
    assert np.isnan(store.read_truth(WHOLE)[40:42, 40:45]).all()
    assert store.statistics["target"]["infinite"] == 10
    assert store.statistics["target"]["max"] < 1000


def test_a_mask_of_another_resolution_is_warped(tmp_path, write_scene, take_in):
    data = make_heights(tmp_path / "data", write_scene, cases=1, mask_grid="nearest")
    coarse = np.arange(48 * 56, dtype=np.float64).reshape(1, 48, 56) / 7
    step = rasterio.Affine(20.0, 0.0, 499_980.0, 0.0, -20.0, 5_300_040.0)
    path = tmp_path / "data" / "heights" / "tile_0.tif"
    path.unlink()
    write_scene(path, coarse, transform=step)
    truth = VolumeStore(take_in(data, tmp_path).volumes / "tile_0.zarr").read_truth(WHOLE)
    expected = np.kron(coarse[0], np.ones((2, 2))).astype(np.float32)
    expected[np.isnan(truth_of(0)) & (scene_corner())] = np.nan
    np.testing.assert_array_equal(truth, expected)


def test_scans_with_masks_of_numbers_are_taken_in_whole(tmp_path, write_scan, take_in):
    random, shape = np.random.default_rng(0), (30, 70, 66)
    for case in "ab":
        write_scan(tmp_path / "data/images" / f"{case}.nii.gz", random.normal(size=shape))
        doses = random.gamma(2, 9, shape)
        doses[:, :5] = np.nan
        np.save(tmp_path / f"{case}.npy", doses)
        write_scan(tmp_path / "data/masks" / f"{case}.nii.gz", doses)
    found = init(tmp_path / "data", tmp_path / "run.yaml").settings.data
    assert (found.task, found.target) == ("regression", "value")
    taken = take_in(found, tmp_path)
    for case in "ab":
        expected = np.load(tmp_path / f"{case}.npy").T.astype(np.float32)
        store = VolumeStore(taken.volumes / f"{case}.zarr")
        np.testing.assert_array_equal(store.read_truth(Window.whole(shape[::-1])), expected)
        assert store.statistics["target"]["count"] == np.isfinite(expected).sum()


def scene_corner():
    corner = np.zeros(SHAPE, bool)
    corner[: SHAPE[0] // 5, : SHAPE[1] // 5] = True
    return corner


def test_an_image_without_a_mask_has_no_target(tmp_path, write_scene, take_in):
    data = make_heights(tmp_path / "data", write_scene, cases=2, unlabelled="predict")
    (tmp_path / "data" / "heights" / "tile_1.tif").unlink()
    store = VolumeStore(take_in(data, tmp_path).volumes / "tile_1.zarr")
    assert not store.labelled and store.target is None
    assert store.statistics["class_voxels"] == [] and "target" not in store.statistics
    with pytest.raises(StoreError, match="holds no truth mask"):
        store.read_truth(WHOLE)


def test_workers_and_threads_give_the_same_bytes(tmp_path, write_scene, take_in, tree):
    data = make_heights(tmp_path / "data", write_scene, cases=3)
    serial = take_in(data, tmp_path / "one")
    workers = take_in(data, tmp_path / "two", execute=ExecuteSettings(on="local", workers=2))
    assert tree(serial.volumes) == tree(workers.volumes)


def test_another_task_or_target_is_another_store(tmp_path, write_scene):
    data = make_heights(tmp_path / "data", write_scene, cases=1)
    [files] = discover(data)
    sources = full_evidence(files, tmp_path / "data")
    keys = {
        store_key(files, sources, changed)
        for changed in (
            data,
            data.model_copy(update={"target": "depth"}),
            data.model_copy(update={"task": "segmentation"}),
        )
    }
    assert len(keys) == 3


def test_stores_of_classes_keep_their_keys(monkeypatch):
    values = {"a": 0, "b": 1}
    classes = tuple(ClassSettings(name=name, values=(v,)) for name, v in values.items())
    data = DataSettings(root="data", layout="pairs", classes=classes)
    image, mask = (one_file(Path(f"data/{folder}/a.tif")) for folder in ("images", "masks"))
    sources = [
        SourceFile("images/a.tif", "image", 9, 1, "ab"),
        SourceFile("masks/a.tif", "mask", 9, 1, "cd"),
    ]
    # What the third version gave before there was a second task: only a new version, which says
    # more of a store's voxels, makes stores anew.
    monkeypatch.setattr(evidence, "VERSION", 3)
    assert store_key(CaseFiles("a", image, mask), sources, data) == "f53e83354fda00bcc1f3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": (ClassSettings(name="a", values=(1,)),)}, "a regression has none"),
        ({"masks": "{case}/masks/*.png"}, "files of one object each hold no numbers"),
        ({"task": "segmentation"}, "at least two classes are needed, the background"),
    ],
)
def test_settings_that_contradict_the_task_are_refused(fields, message):
    known = {"root": "data", "layout": "pairs", "task": "regression"}
    with pytest.raises(ValidationError, match=message):
        DataSettings(**(known | fields))


# Statistics


def gathered(truth, valid, parts, order, shape):
    """Statistics of boxes, taken in and merged in some order."""
    made = []
    for window in parts:
        one = CaseStatistics(shape, "uint8", 1, 0, None, (16, 16), numbers=True)
        array = np.ones((1, *window.shape), np.uint8)
        part = Volume(array, voxel_grid(window.shape), valid[window.slices])
        one.add(window, part, truth[window.slices])
        made.append(one)
    first, *others = [made[i] for i in order]
    for other in others:
        first.merge(other)
    return first.to_json()


def test_boxes_merged_in_any_order_say_the_same():
    shape, random = (64, 48), np.random.default_rng(0)
    truth = random.normal(1e4, 3, shape).astype(np.float32)
    truth[random.random(shape) < 0.3] = np.nan
    truth[5, 6] = np.inf
    valid = random.random(shape) < 0.9
    valid[5, 6] = True
    parts = [Window((y, x), (32, 16)) for y in (0, 32) for x in (0, 16, 32)]
    one = gathered(truth, valid, parts, range(6), shape)
    other = gathered(truth, valid, parts, random.permutation(6), shape)
    assert one == other
    numbers = truth[valid & np.isfinite(truth)].astype(np.float64)
    assert one["class_voxels"] == [len(numbers)] and one["target"]["infinite"] == 1
    assert one["target"]["mean"] == pytest.approx(numbers.mean(), rel=1e-12)
    assert one["target"]["std"] == pytest.approx(numbers.std(), rel=1e-10)


def test_no_number_at_all_is_null():
    shape = (16, 16)
    nothing = np.full(shape, np.nan, np.float32)
    found = gathered(nothing, np.ones(shape, bool), [Window.whole(shape)], [0], shape)
    assert found["class_voxels"] == [0] and found["positions"] == [[]]
    target = {"count": 0, "mean": None, "std": None, "min": None, "max": None, "infinite": 0}
    assert found["target"] == target
    assert json.dumps(found, allow_nan=False)


# Stores


def test_coarser_levels_are_means_of_what_is_known(tmp_path):
    shape, random = (1100, 700), np.random.default_rng(0)
    truth = random.normal(size=shape).astype(np.float32)
    truth[random.random(shape) < 0.4] = np.nan
    truth[:, 600:] = np.nan
    grid = voxel_grid(shape)
    spec = VolumeSpec(grid, "uint8", ("0",), None, target="depth")
    writer = VolumeWriter(tmp_path / "a.zarr", spec)
    for window in writer.windows():
        part = Volume(np.ones((1, *window.shape), np.uint8), grid.cropped(window))
        writer.write(window, part, truth[window.slices])
    writer.finish({}, "key", [])
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    level = truth
    for number in range(1, len(root["target"])):
        level = downsample(np.pad(level, [(0, n % 2) for n in level.shape], "edge"), (2, 2), "mean")
        np.testing.assert_array_equal(root[f"target/{number}"][:], level)
    assert number == 2 and np.isnan(level[:, 150:]).all() and np.isfinite(level[:, :149]).all()


def test_a_volume_with_numbers_is_an_ome_image_beside_which_stands_another(taken):
    path = taken.volumes / "tile_0.zarr"
    root = zarr.open_group(path, mode="r")
    assert isinstance(ome_zarr_models.open_ome_zarr(root), Image)
    assert isinstance(ome_zarr_models.open_ome_zarr(root["target"]), Image)
    assert "labels" not in root
    [node] = list(Reader(parse_url(str(path / "target")))())
    np.testing.assert_array_equal(node.data[0], truth_of(0))
    assert len(list(Reader(parse_url(str(path)))())) == 1
    for file in path.rglob("zarr.json"):
        json.loads(file.read_text(), parse_constant=refuse)


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def mask_of(tmp_path):
    def write(grid, values, name="mask"):
        path = tmp_path / f"{name}.zarr"
        spec = MaskSpec(grid, (), "key", {"model": {"id": "m"}}, target="height")
        writer = MaskWriter.create(path, spec)
        for window in mask_windows(values.shape, values.dtype):
            writer.write(window, values[window.slices])
        writer.finish()
        return path

    return write


def numbers(shape):
    values = np.random.default_rng(0).normal(40, 9, shape).astype(np.float32)
    values[: shape[0] // 3] = np.nan
    return values


def test_a_mask_of_numbers_comes_back_with_its_provenance(mask_of):
    values = numbers((600, 1100))
    read = MaskStore(mask_of(voxel_grid(values.shape), values))
    np.testing.assert_array_equal(read.read(Window.whole(values.shape)), values)
    np.testing.assert_array_equal(read.overview(), values)
    assert read.target == "height" and len(read.windows()) > 1
    told = {key: read.attributes[key] for key in ("task", "target", "nodata", "model")}
    assert told == {
        "task": "regression",
        "target": "height",
        "nodata": "NaN",
        "model": {"id": "m"},
    }
    assert "classes" not in read.attributes


@rioxarray_warns
@pytest.mark.parametrize("options", [{}, {"consolidated": False}], ids=["plain", "unconsolidated"])
def test_xarray_opens_a_mask_of_numbers_and_a_geotiff_of_it_knows_its_nodata(
    tmp_path, mask_of, write_scene, options
):
    values = numbers((600, 560))
    grid = open_source(write_scene(tmp_path / "scene.tif", values[None]), "image").grid
    path = mask_of(grid, values)
    level = xarray.open_zarr(path, group="0", decode_coords="all", **options)
    assert level.mask.dtype == np.float32 and level.rio.crs == rasterio.CRS.from_epsg(32633)
    np.testing.assert_array_equal(level.mask, values)
    level.mask.rio.to_raster(tmp_path / "back.tif")
    with rasterio.open(tmp_path / "back.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), values)
        assert np.isnan(raster.nodata)


@pytest.mark.parametrize("shape", [(600, 560), (70, 80, 90)])
def test_a_mask_of_numbers_is_an_ome_image(mask_of, shape):
    values = numbers(shape)
    path = mask_of(voxel_grid(shape), values)
    root = zarr.open_group(path, mode="r")
    assert type(ome_zarr_models.open_ome_zarr(root)) is Image
    [node] = list(Reader(parse_url(str(path)))())
    np.testing.assert_array_equal(node.data[0], values)
    for file in path.rglob("zarr.json"):
        json.loads(file.read_text(), parse_constant=refuse)
    known = np.isfinite(root["1/mask"][:])
    assert known.any() and not known.all()


def test_equal_numbers_give_equal_bytes(tmp_path, mask_of, tree):
    values = numbers((600, 700))
    for name in "ab":
        mask_of(voxel_grid(values.shape), values, name)
    a, b = (tree(tmp_path / f"{name}.zarr") for name in "ab")
    assert {k: v for k, v in a.items() if "c/" in k} == {k: v for k, v in b.items() if "c/" in k}
