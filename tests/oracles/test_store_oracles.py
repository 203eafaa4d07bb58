"""Stores as zarr, xarray, rioxarray, ome_zarr and ome-zarr-models see them."""

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
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.readers import open_source
from pipeline.space import voxel_grid

assert rioxarray  # registers ``.rio``

# rioxarray 0.19 multiplies affines as affine 3 no longer likes it; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "field"), LabelClass(2, "forest"))
SCENES = {
    "projected": ("EPSG:32633", rasterio.Affine(10, 0, 499_980.5, 0, -10, 5_300_040.25)),
    "geographic": (
        "EPSG:4326",
        rasterio.Affine(
            9.119649793838669e-05, 0, -59.71893239305556, 0, -8.99132e-05, -9.587168649
        ),
    ),
    "rotated": ("EPSG:32633", rasterio.Affine(8, 6, 5e5, 6, -8, 5e6)),
}
LABELS = np.random.default_rng(0).choice([0, 1, 2, 255], (600, 560)).astype(np.uint8)


@pytest.fixture
def mask_of(tmp_path):
    def write(grid, labels=LABELS):
        path = tmp_path / "mask.zarr"
        writer = MaskWriter.create(path, MaskSpec(grid, CLASSES, "key", {}))
        for window in mask_windows(labels.shape, "uint8"):
            writer.write(window, labels[window.slices])
        writer.finish()
        return path

    return write


@pytest.fixture
def scene_grid(tmp_path, write_scene):
    def grid(crs, transform):
        path = write_scene(
            tmp_path / "scene.tif", np.zeros((1, 600, 560), np.uint8), crs, transform
        )
        return open_source(path, "image").grid

    return grid


@pytest.mark.parametrize(("crs", "transform"), SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("options", [{}, {"consolidated": False}], ids=["plain", "unconsolidated"])
def test_xarray_opens_a_mask_at_its_place_without_a_warning(
    mask_of, scene_grid, crs, transform, options
):
    path = mask_of(scene_grid(crs, transform))
    scene = xarray.open_zarr(path, group="0", decode_coords="all", **options)
    assert scene.rio.crs == rasterio.CRS.from_string(crs)
    assert scene.rio.transform(recalc=False) == transform
    assert scene.mask.dtype == np.uint8 and scene.mask.attrs["nodata"] == 255
    np.testing.assert_array_equal(scene.mask, LABELS)


@pytest.mark.parametrize("name", ["projected", "geographic"])
def test_coordinates_are_pixel_centres_and_the_raster_comes_back(
    tmp_path, mask_of, scene_grid, name
):
    crs, transform = SCENES[name]
    path = mask_of(scene_grid(crs, transform))
    scene = xarray.open_zarr(path, group="0", decode_coords="all")
    x, y = transform * (0.5, 0.5)
    np.testing.assert_allclose((scene.x[0], scene.y[0]), (x, y), rtol=1e-14)
    scene.mask.rio.to_raster(tmp_path / "back.tif")
    with rasterio.open(tmp_path / "back.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), LABELS)
        assert raster.crs == rasterio.CRS.from_string(crs)
        assert raster.transform.almost_equals(transform, precision=1e-12)


def test_coarser_levels_cover_the_same_ground(mask_of, scene_grid):
    path = mask_of(scene_grid(*SCENES["projected"]))
    fine, coarse = (xarray.open_zarr(path, group=g, decode_coords="all") for g in "01")
    assert coarse.rio.bounds() == fine.rio.bounds()
    assert coarse.mask.shape == (300, 280)


def test_a_tree_of_levels_opens_too(mask_of):
    levels = xarray.open_datatree(mask_of(voxel_grid(LABELS.shape)), engine="zarr")
    assert sorted(levels.children) == ["0", "1"]


def test_zarr_alone_reads_labels_and_provenance(mask_of):
    path = mask_of(voxel_grid(LABELS.shape))
    np.testing.assert_array_equal(zarr.open_array(path / "0" / "mask", mode="r")[:], LABELS)
    root = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(root["0/mask"][:], LABELS)
    assert root.attrs["segflow"]["status"] == "complete"
    fresh = zarr.open_group(path, mode="r", use_consolidated=False)
    assert fresh.attrs == root.attrs


def test_a_mask_store_is_an_image_label(mask_of):
    path = mask_of(voxel_grid(LABELS.shape))
    assert isinstance(ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r")), ImageLabel)


@pytest.mark.parametrize("shape", [(600, 560), (70, 80, 90)])
def test_ome_zarr_opens_a_mask_with_its_colours_and_names(mask_of, shape):
    labels = np.resize(LABELS, shape)
    [node] = list(Reader(parse_url(str(mask_of(voxel_grid(shape), labels))))())
    np.testing.assert_array_equal(node.data[0], labels)
    assert node.metadata["properties"][2] == {"class": "forest"}
    assert node.metadata["color"][0][3] == 0 and node.metadata["color"][1][3] == 1
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"][-len(shape) :]


@pytest.mark.parametrize("kind", ["msd", "pairs"])
def test_a_volume_store_is_an_image_with_labels(tmp_path, make_msd, make_pairs, take_in, kind):
    data = (make_msd if kind == "msd" else make_pairs)(tmp_path / "data", cases=1)
    [path] = take_in(data, tmp_path).volumes.iterdir()
    root = zarr.open_group(path, mode="r")
    assert isinstance(ome_zarr_models.open_ome_zarr(root), Image)
    assert isinstance(ome_zarr_models.open_ome_zarr(root["labels"]), Labels)
    assert isinstance(ome_zarr_models.open_ome_zarr(root["labels/truth"]), ImageLabel)
    nodes = list(Reader(parse_url(str(path)))())
    names = [data.classes[k].name for k in nodes[-1].metadata["properties"]]
    assert names == [c.name for c in data.classes]


def test_spacing_of_a_scan_stands_in_the_metadata(tmp_path, make_msd, take_in):
    [path] = take_in(make_msd(tmp_path / "data", cases=1), tmp_path).volumes.iterdir()
    entry = zarr.open_group(path, mode="r").attrs["ome"]["multiscales"][0]
    source = open_source(tmp_path / "data" / "imagesTr" / "liver_0.nii.gz", "image")
    assert entry["datasets"][0]["coordinateTransformations"][0]["scale"] == [
        1.0,
        *source.grid.spacing,
    ]
    assert [a.get("unit") for a in entry["axes"]] == [None, *["millimeter"] * 3]
