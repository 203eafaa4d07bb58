"""Sources made of sources: stacked channels, chosen bands, numbered objects."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CaseError
from pipeline.io.readers import open_source
from pipeline.io.readers.objects import ObjectsSource
from pipeline.io.readers.stacked import BandsSource, StackedSource
from pipeline.space import Window, voxel_grid

RANDOM = np.random.default_rng(0)
BANDS = RANDOM.integers(1, 200, (3, 20, 24)).astype(np.uint8)


def whole(source):
    volume = source.read(Window.whole(source.grid.shape))
    assert (len(volume.array), volume.array.dtype) == (source.channels, source.dtype)
    return volume


def opened(*paths):
    return StackedSource([open_source(p, "image") for p in paths], [p.name for p in paths])


def test_files_of_one_image_follow_each_other_as_channels(tmp_path, write_scene):
    one = write_scene(tmp_path / "B04.tif", BANDS[:2].astype(np.uint16))
    two = write_scene(tmp_path / "B08.tif", BANDS[2:])
    source = opened(one, two)
    assert (source.channels, source.dtype, source.placed) == (3, np.uint16, True)
    assert source.grid == open_source(one, "image").grid and not source.sequential
    np.testing.assert_array_equal(whole(source).array, BANDS)
    box = Window((3, 4), (5, 6))
    part = source.read(box)
    np.testing.assert_array_equal(part.array, BANDS[(slice(None), *box.slices)])
    assert part.grid == source.grid.cropped(box)


def test_a_pixel_is_valid_where_every_file_has_data(tmp_path, write_scene):
    one, two = BANDS[:1].copy(), BANDS[1:2].copy()
    one[0, 3], two[0, :, 5] = 0, 0
    paths = [
        write_scene(tmp_path / "a.tif", one, nodata=0),
        write_scene(tmp_path / "b.tif", two, nodata=0),
        write_scene(tmp_path / "c.tif", BANDS[2:]),
    ]
    np.testing.assert_array_equal(whole(opened(*paths)).valid, (one[0] > 0) & (two[0] > 0))
    assert whole(opened(paths[2], paths[2])).valid is None


def test_files_without_a_place_follow_the_first_that_has_one(tmp_path, write_scene):
    np.save(tmp_path / "a.npy", BANDS[0])
    write_scene(tmp_path / "b.tif", BANDS[1:])
    source = opened(tmp_path / "a.npy", tmp_path / "b.tif")
    assert source.placed and source.grid == open_source(tmp_path / "b.tif", "image").grid
    np.testing.assert_array_equal(whole(source).array, BANDS)
    assert opened(tmp_path / "a.npy", tmp_path / "a.npy").grid == voxel_grid((20, 24))


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("uint8", "int16"), "int16"),
        (("uint16", "int16"), "int32"),
        (("uint8", "float32"), "float32"),
        (("int32", "float32"), "float32"),
    ],
)
def test_channels_share_a_type_that_holds_them_all(tmp_path, types, expected):
    paths = []
    for number, dtype in enumerate(types):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], BANDS[number].astype(dtype))
    source = opened(*paths)
    assert source.dtype == np.dtype(expected)
    np.testing.assert_array_equal(whole(source).array, BANDS[:2])


def test_files_that_differ_in_shape_or_place_are_refused_by_name(tmp_path, write_scene):
    one = write_scene(tmp_path / "a.tif", BANDS)
    small = write_scene(tmp_path / "b.tif", BANDS[:, ::2, ::2])
    shifted = write_scene(tmp_path / "c.tif", BANDS, crs="EPSG:32634")
    with pytest.raises(
        CaseError, match=r"b.tif does not fit a.tif: shape \(10, 12\) instead of \(20"
    ):
        opened(one, small)
    with pytest.raises(
        CaseError, match=r"c.tif does not fit a.tif: it is in another.*Resample the"
    ):
        opened(one, shifted)


def test_the_block_of_stacked_files_is_the_largest_of_theirs(tmp_path):
    np.save(tmp_path / "a.npy", BANDS[0])
    Image.fromarray(BANDS[1]).save(tmp_path / "b.png")
    assert opened(tmp_path / "a.npy", tmp_path / "b.png").block == (20, 24)


@pytest.mark.parametrize("bands", [(3, 1), (2,), (1, 1, 2)])
def test_bands_are_chosen_and_ordered_from_1(tmp_path, write_scene, bands):
    whole_source = open_source(write_scene(tmp_path / "a.tif", BANDS, nodata=7), "image")
    source = BandsSource(whole_source, bands)
    volume = whole(source)
    np.testing.assert_array_equal(volume.array, BANDS[[b - 1 for b in bands]])
    assert source.grid == whole_source.grid and source.placed and source.block == whole_source.block


@pytest.mark.parametrize("bands", [(0,), (1, 4), (-1,)])
def test_a_band_that_is_not_there_is_refused(tmp_path, write_scene, bands):
    source = open_source(write_scene(tmp_path / "a.tif", BANDS), "image")
    with pytest.raises(
        CaseError, match=r"its image has 3 channels: there is no channel .*Correct da"
    ):
        BandsSource(source, bands)


def write_objects(folder, masks):
    paths = []
    for name, mask in masks.items():
        paths.append(folder / f"{name}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(paths[-1])
    return paths


def mask_source(path):
    return open_source(path, "mask")


def test_objects_are_numbered_by_the_names_of_their_files(tmp_path):
    masks = {name: np.zeros((8, 9), bool) for name in "cab"}
    masks["a"][:2], masks["b"][3:5], masks["c"][6:] = True, True, True
    source = ObjectsSource(write_objects(tmp_path, masks), mask_source)
    assert source.instances and source.dtype == np.uint16 and source.channels == 1
    expected = masks["a"] * 1 + masks["b"] * 2 + masks["c"] * 3
    np.testing.assert_array_equal(whole(source).array[0], expected)
    box = Window((1, 2), (4, 5))
    np.testing.assert_array_equal(source.read(box).array[0], expected[box.slices])
    assert source.overlap == 0


def test_where_objects_overlap_the_later_wins_and_voxels_are_counted(tmp_path):
    masks = {name: np.zeros((8, 9), bool) for name in "abc"}
    masks["a"][:4], masks["b"][3:6], masks["c"][3, :2] = True, True, True
    source = ObjectsSource(write_objects(tmp_path, masks), mask_source)
    labels = whole(source).array[0]
    assert source.overlap == 9 and labels[3].tolist() == [3, 3, *[2] * 7]


def test_objects_of_another_size_are_refused_by_name(tmp_path):
    paths = write_objects(tmp_path, {"a": np.ones((8, 9)), "b": np.ones((8, 8))})
    source = ObjectsSource(paths, mask_source)
    with pytest.raises(
        CaseError, match=r"b.png has shape \(8, 8\) and 1 channels: the other masks"
    ):
        whole(source)


def test_more_objects_than_16_bits_count_take_32(tmp_path):
    path = write_objects(tmp_path, {"a": np.ones((2, 2))})[0]
    assert ObjectsSource([path] * (2**16 - 1), mask_source).dtype == np.uint16
    assert ObjectsSource([path] * 2**16, mask_source).dtype == np.uint32


def test_a_torn_object_is_the_cases_fault(tmp_path):
    paths = write_objects(tmp_path, {"a": np.ones((8, 9)), "b": np.ones((8, 9))})
    paths[1].write_bytes(paths[1].read_bytes()[:50])
    with pytest.raises(CaseError, match=r"b.png cannot be read"):
        whole(ObjectsSource(paths, mask_source))


def test_threads_number_objects_once(tmp_path):
    masks = {f"{n:02}": RANDOM.random((30, 40)) > 0.9 for n in range(20)}
    source = ObjectsSource(write_objects(tmp_path, masks), mask_source)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: whole(source).array, range(16)))
    assert all(np.array_equal(found[0], array) for array in found)


def test_the_nuclei_of_dsb_2018_are_their_own_union_and_set(real_data):
    for folder in sorted((real_data("dsb2018") / "stage1_train").iterdir())[:8]:
        paths = sorted((folder / "masks").glob("*.png"))
        source = ObjectsSource(paths, mask_source)
        labels = whole(source).array[0]
        masks = np.stack([np.asarray(Image.open(path)) > 0 for path in paths])
        np.testing.assert_array_equal(labels > 0, masks.any(axis=0))
        assert source.overlap == int((masks.sum(axis=0) > 1).sum())
        for number, mask in enumerate(masks, start=1):
            assert set(np.unique(labels[mask])) <= set(range(number, len(masks) + 1))
