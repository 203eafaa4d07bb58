"""What the raster reader takes, and what it refuses."""

import os
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

from pipeline.errors import CaseError
from pipeline.io.readers.geo.gdal import BLOCK_BYTES, companions
from pipeline.io.readers.geo.raster import data_mask, open_source
from pipeline.space import Window, voxel_grid

BANDS = np.random.default_rng(0).integers(1, 255, (3, 60, 80), dtype=np.uint8)
NAN = float("nan")


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def vrt(path, *sources, attributes="", band="", size=(80, 60)):
    """Write a VRT of one band with these texts as names of sources."""
    parts = "".join(
        f"<SimpleSource><SourceFilename relativeToVRT='1'>{name}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource>"
        for name in sources
    )
    path.write_text(
        f"<VRTDataset rasterXSize='{size[0]}' rasterYSize='{size[1]}' {attributes}>"
        f"<VRTRasterBand dataType='Byte' band='1' {band}>{parts}</VRTRasterBand></VRTDataset>"
    )
    return path


def sparse_tiff(path, side, tile):
    """Write a TIFF of a few hundred bytes that claims one band of ``side`` squared bytes."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (277, 1)]
    tags += [(322, tile), (323, tile)]
    content = b"II*\0" + struct.pack("<IH", 8, len(tags) + 2)
    count = (-(-side // tile)) ** 2
    end = 8 + 2 + 12 * (len(tags) + 2) + 4
    for tag, value in tags:
        content += struct.pack("<HHII", tag, 4, 1, value)
    for tag in (324, 325):
        content += struct.pack("<HHII", tag, 4, count, 0 if count == 1 else end)
    content += struct.pack("<I", 0)
    path.write_bytes(content + (b"" if count == 1 else bytes(4 * count)))
    return path


@pytest.mark.parametrize(
    ("nodata", "pixels", "expected"),
    [
        ([None, None], [[0, 1], [0, 1]], None),
        ([0, 0], [[0, 0, 5], [0, 5, 5]], [False, True, True]),
        ([7, -9], [[7, 7, -9], [-9, 7, 7]], [False, True, True]),
        ([0, None], [[0, 1], [0, 1]], None),
        ([300, 300], [[44, 1], [44, 1]], None),
        ([0.5, 0.5], [[0, 1], [0, 1]], None),
    ],
)
def test_a_pixel_is_missing_where_every_band_holds_its_own_nodata(nodata, pixels, expected):
    array = np.asarray(pixels, np.int16)[:, None]
    if nodata[0] == 300:
        array = array.astype(np.uint8)
    valid = data_mask(array, nodata)
    assert valid is None if expected is None else valid[0].tolist() == expected


def test_nan_in_one_band_that_may_hold_it_makes_a_pixel_missing():
    array = np.asarray([[[1, NAN, NAN]], [[-9999, -9999, 1]]], np.float32)
    assert data_mask(array, [NAN, -9999])[0].tolist() == [True, False, False]
    assert data_mask(array, [None, -9999]) is None
    lowest = np.asarray([[[-3.4028234663852886e38, 1]]], np.float32)
    assert data_mask(lowest, [-3.4028234663852886e38])[0].tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "block"),
    [
        ({"tiled": True, "blockxsize": 32, "blockysize": 16}, (16, 32)),
        ({"blockysize": 5}, (5, 80)),
        ({"tiled": True, "blockxsize": 256, "blockysize": 256}, (60, 80)),
    ],
)
def test_the_block_is_the_files_tile_or_strip(tmp_path, write_scene, options, block):
    source = open_source(write_scene(tmp_path / "a.tif", BANDS, **options), "image")
    assert source.block == block and not source.sequential


def test_a_world_file_places_a_tiff_without_a_crs(tmp_path, write_scene):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_scene(tmp_path / "a.tif", BANDS, crs=None, transform=None)
    assert open_source(path, "image").grid == voxel_grid((60, 80))
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    source = open_source(path, "image")
    assert source.placed and source.grid.crs is None and source.grid.anchor == "corner"
    assert source.grid.index_to_world((0, 0)).tolist() == [500_000, 5_000_000]
    assert companions(path) == (tmp_path / "a.tfw",)


def test_control_points_are_no_place(tmp_path):
    points = [(0, 0, 10, 50), (0, 80, 11, 50), (60, 0, 10, 49)]
    gcps = [rasterio.control.GroundControlPoint(*p) for p in points]
    shape = {"count": 1, "height": 60, "width": 80, "dtype": "uint8"}
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", gcps=gcps, crs="EPSG:4326", **shape) as raster:
        raster.write(BANDS[:1])
    source = open_source(path, "image")
    assert not source.placed and source.grid == voxel_grid((60, 80))


def test_pages_of_one_size_are_refused_and_a_thumbnail_is_passed_over(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS)
    write_scene(path, BANDS[:, ::4, ::4], APPEND_SUBDATASET="YES")
    np.testing.assert_array_equal(whole(open_source(path, "image")).array, BANDS)
    write_scene(path, BANDS[:1], APPEND_SUBDATASET="YES")
    with pytest.raises(CaseError, match="a.tif holds 2 images of one size: one is expected"):
        open_source(path, "image")


def test_a_transform_to_no_place_is_refused(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS, transform=rasterio.Affine(1, 1, 0, 1, 1, 0))
    with pytest.raises(CaseError, match="transform that maps pixels to no place"):
        open_source(path, "image")


def test_complex_pixels_are_refused(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS.astype(np.complex64))
    with pytest.raises(CaseError, match="holds complex numbers: real ones are expected"):
        open_source(path, "image")


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bit_integers_are_labels_and_no_image(tmp_path, write_scene, dtype):
    path = write_scene(tmp_path / "a.tif", BANDS[:1].astype(dtype))
    with pytest.raises(CaseError, match=f"holds {dtype} pixels: at most 32 bits"):
        open_source(path, "image")
    mask = open_source(path, "mask")
    assert mask.dtype == np.int64 and whole(mask).array.dtype == np.int64
    np.testing.assert_array_equal(whole(mask).array, BANDS[:1])


def test_labels_beyond_int64_are_refused(tmp_path, write_scene):
    labels = np.full((1, 4, 4), 2**63, np.uint64)
    path = write_scene(tmp_path / "a.tif", labels)
    with pytest.raises(CaseError, match="holds labels above 9223372036854775807"):
        whole(open_source(path, "mask"))


@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
def test_a_file_of_another_format_is_refused_for_what_it_is(tmp_path, write_picture, name):
    path = tmp_path / name
    write_picture(tmp_path / "a.png", BANDS[0]).rename(path)
    with pytest.raises(CaseError, match=rf"{name} does not hold .*, whatever its suffix says"):
        open_source(path, "image")


def test_a_tiff_that_is_a_text_for_gdal_is_not_followed(tmp_path, write_scene):
    write_scene(tmp_path / "b.tif", BANDS)
    path = vrt(tmp_path / "a.tif", "b.tif")
    with pytest.raises(CaseError, match="does not hold TIFF"):
        open_source(path, "image")


def test_a_mask_file_that_is_a_text_for_gdal_is_not_followed(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", BANDS)
    vrt(tmp_path / "a.tif.msk", "a.tif")
    with pytest.raises(CaseError, match=r"a.tif.msk does not hold TIFF"):
        open_source(path, "image")


def test_blocks_beyond_memory_are_refused_before_one_is_decoded(tmp_path):
    path = sparse_tiff(tmp_path / "a.tif", 60_000, tile=60_000)
    with pytest.raises(
        CaseError, match=r"blocks of 60000 x 60000 pixels, 3.6 GB to decode at once"
    ):
        open_source(path, "image")
    assert BLOCK_BYTES < 60_000**2


def test_a_claim_out_of_all_proportion_is_refused(tmp_path):
    path = sparse_tiff(tmp_path / "a.tif", 10**9, tile=2**25)
    with pytest.raises(CaseError, match=r"decode at once"):
        open_source(path, "image")
    path = sparse_tiff(tmp_path / "b.tif", 400_000, tile=16_384)
    with pytest.raises(CaseError, match=r"b.tif claims 160 GB of pixels in \d+ bytes"):
        open_source(path, "image")


def test_a_sparse_file_of_empty_tiles_is_read(tmp_path):
    path = tmp_path / "a.tif"
    shape = {"height": 40_000, "width": 40_000, "count": 1, "dtype": "uint8", "nodata": 0}
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "crs": "EPSG:32633"}
    options |= {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), "SPARSE_OK": True}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options):
        pass
    source = open_source(path, "image")
    assert not source.read(Window((39_000, 39_000), (1000, 1000))).valid.any()


def test_memory_stays_with_the_window(tmp_path, write_scene):
    path = write_scene(tmp_path / "a.tif", np.zeros((1, 4096, 4096), np.uint8), compress="deflate")
    source = open_source(path, "image")
    tracemalloc.start()
    for y in range(0, 4096, 256):
        source.read(Window((y, 0), (256, 256)))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_forked_process_opens_its_own_handle(tmp_path, write_scene):
    source = open_source(write_scene(tmp_path / "a.tif", BANDS), "image")
    here = source._raster()
    assert source._raster() is here
    source._local.process = os.getpid() + 1
    assert source._raster() is not here


def test_threads_have_handles_of_their_own(tmp_path, write_scene):
    source = open_source(write_scene(tmp_path / "a.tif", BANDS), "image")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(source._raster).result() is not source._raster()


@pytest.mark.parametrize(
    "name",
    [
        "../out.tif",
        "/etc/hostname",
        "/vsicurl/http://example.com/a.tif",
        "http://example.com/a.tif",
        "NETCDF:a.nc:x",
        "absent.tif",
    ],
)
def test_a_vrt_reaches_no_further_than_its_folder(tmp_path, write_scene, name):
    write_scene(tmp_path / "out.tif", BANDS)
    (tmp_path / "in").mkdir()
    path = vrt(tmp_path / "in" / "a.vrt", name)
    with pytest.raises(CaseError, match=r"a.vrt names '.*', which is no file in its own folder"):
        open_source(path, "image")


def test_a_link_does_not_lead_a_vrt_out_of_its_folder(tmp_path, write_scene):
    write_scene(tmp_path / "out.tif", BANDS)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.tif").symlink_to(tmp_path / "out.tif")
    with pytest.raises(CaseError, match="no file in its own folder"):
        open_source(vrt(tmp_path / "in" / "a.vrt", "link.tif"), "image")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><VRTDataset/>", "declares a document type"),
        ("<VRTDataset subClass='VRTWarpedDataset'/>", "holds a VRTWarpedDataset"),
        ("<VRTDataset><SUBCLASS>VRTRawRasterBand</SUBCLASS></VRTDataset>", "VRTRawRasterBand"),
        (
            "<VRTDataset><x PixelFunctionLanguage='Python'/></VRTDataset>",
            "a function in a programming language",
        ),
        ("<VRTDataset><x sourceFILENAME='/a'/></VRTDataset>", "names a source in an attribute"),
        ("<GDAL_WMS/>", "does not hold a VRT"),
        ("<VRTDataset", "cannot be read: it is truncated or damaged"),
        ("", "cannot be read: it is truncated or damaged"),
    ],
)
def test_a_vrt_that_is_more_than_bands_put_together_is_refused(tmp_path, text, met):
    (tmp_path / "a.vrt").write_text(text)
    with pytest.raises(CaseError, match=f"a.vrt .*{met}"):
        open_source(tmp_path / "a.vrt", "image")


def test_a_source_of_another_format_is_refused(tmp_path):
    (tmp_path / "b.tif").write_text("<GDAL_WMS/>")
    with pytest.raises(CaseError, match=r"names b.tif, which is neither TIFF, JPEG 2000 nor a VRT"):
        open_source(vrt(tmp_path / "a.vrt", "b.tif"), "image")


def test_a_vrt_that_names_itself_is_refused(tmp_path):
    path = vrt(tmp_path / "a.vrt", *["a.vrt"] * 50)
    with pytest.raises(CaseError, match="holds more than 4 VRTs within each other"):
        open_source(path, "image")


def test_a_vrt_that_grows_by_naming_is_refused(tmp_path, write_scene):
    write_scene(tmp_path / "x.tif", BANDS)
    vrt(tmp_path / "3.vrt", *["x.tif"] * 3000)
    vrt(tmp_path / "2.vrt", *["3.vrt"] * 3000)
    with pytest.raises(CaseError, match="more than 67108864 bytes of text"):
        open_source(vrt(tmp_path / "1.vrt", *["2.vrt"] * 3000), "image")


def test_a_vrt_of_a_hostile_file_is_refused(tmp_path):
    sparse_tiff(tmp_path / "b.tif", 60_000, tile=60_000)
    with pytest.raises(CaseError, match="b.tif is cut into blocks of 60000 x 60000"):
        open_source(vrt(tmp_path / "a.vrt", "b.tif"), "image")


def test_a_vrt_larger_than_what_it_names_is_refused(tmp_path, write_scene):
    write_scene(tmp_path / "b.tif", BANDS)
    path = vrt(tmp_path / "a.vrt", "b.tif", size=(10**6, 10**6))
    with pytest.raises(CaseError, match=r"a.vrt claims 1e\+03 GB of pixels"):
        open_source(path, "image")


def test_companions_are_the_files_gdal_reads(tmp_path, write_scene):
    for name in ("b.tif", "c.tif"):
        write_scene(tmp_path / name, BANDS)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "b.tif", "r+") as b:
        b.write_mask(np.ones(b.shape, bool))
    (tmp_path / "c.tif.aux.xml").write_text("<PAMDataset><Metadata/></PAMDataset>")
    vrt(tmp_path / "inner.vrt", "b.tif")
    path = vrt(tmp_path / "a.vrt", "inner.vrt", "c.tif")
    told = {p.name for p in companions(path)}
    assert told == {"inner.vrt", "b.tif", "c.tif", "b.tif.msk", "c.tif.aux.xml"}
    for name in ("b.tif", "c.tif"):
        with rasterio.open(tmp_path / name) as raster:
            assert {os.path.basename(f) for f in raster.files} <= told
    assert companions(tmp_path / "c.tif") == (tmp_path / "c.tif.aux.xml",)
