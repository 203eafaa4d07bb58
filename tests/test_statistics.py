"""Statistics of a case say what numpy says of the whole array."""

import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest

from pipeline.errors import GridError
from pipeline.io.volume_store import no_label
from pipeline.space import Volume, Window, aligned_windows, crop, voxel_grid
from pipeline.statistics import PERCENTILES, POSITIONS, CaseStatistics

CHUNK = (8, 16, 16)
SHAPE = (20, 40, 50)


def collector(volume, chunk=CHUNK, classes=3, background=0):
    array = volume.array
    return CaseStatistics(
        volume.grid.shape, array.dtype, len(array), classes, background, chunk[-array.ndim + 1 :]
    )


def gathered(array, truth=None, valid=None, background=0):
    """Give the statistics of a case taken in as one box."""
    volume = Volume(array, voxel_grid(array.shape[1:]), valid)
    found = collector(volume, classes=0 if truth is None else 3, background=background)
    found.add(Window.whole(array.shape[1:]), volume, truth)
    return json.loads(json.dumps(found.to_json()))


def labels(shape=SHAPE, seed=0):
    random = np.random.default_rng(seed)
    return random.choice([0, 1, 2, no_label("uint8")], shape, p=[0.6, 0.3, 0.05, 0.05]).astype("u1")


def whole_numbers(dtype, shape=SHAPE, seed=0):
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.random((2, *shape)) < 0.3
    limits = np.iinfo(dtype)
    wide = random.integers(limits.min, limits.max, (1, *shape), dtype, endpoint=True)
    narrow = random.normal(50, 9, (1, *shape)).astype(dtype)
    return np.concatenate([wide, narrow])


def assert_exact(found, values):
    """Compare statistics of whole numbers to the last bit."""
    numbers = [int(v) for v in values]
    mean = Fraction(sum(numbers), len(numbers))
    variance = Fraction(sum(n * n for n in numbers), len(numbers)) - mean**2
    assert found["mean"] == float(mean)
    assert found["std"] == pytest.approx(sqrt(variance), rel=1e-15)
    expected = np.percentile(values.astype(np.float64), PERCENTILES)
    assert list(found["percentiles"].values()) == expected.tolist()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("masked", [False, True])
def test_statistics_of_small_integers_are_those_of_numpy_to_the_last_bit(dtype, masked):
    array, truth = whole_numbers(dtype), labels()
    valid = np.random.default_rng(1).random(SHAPE) < 0.7 if masked else None
    found = gathered(array, truth, valid)
    told = np.ones(SHAPE, bool) if valid is None else valid
    assert found["valid_voxels"] == told.sum()
    inside = told & ((truth == 1) | (truth == 2))
    for channel, values, foreground in zip(
        found["channels"], array, found["foreground"], strict=True
    ):
        assert_exact(channel, values[told])
        assert (channel["min"], channel["max"]) == (values[told].min(), values[told].max())
        assert_exact(foreground, values[inside])
        assert foreground["voxels"] == inside.sum()
    assert found["class_voxels"] == [int((told & (truth == k)).sum()) for k in range(3)]


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float16", "float32", "float64"])
def test_statistics_of_wide_types_are_those_of_numpy_within_bounds(dtype):
    array = np.random.default_rng(0).normal(500, 40, (2, *SHAPE)).round().astype(dtype)
    truth = labels()
    found = gathered(array, truth)
    inside = (truth == 1) | (truth == 2)
    # Whole numbers of 32 bits that lie close together are counted exactly, floats in bins.
    rtol = 0 if "int" in dtype else 1e-4
    for c, values in enumerate(array):
        for seen, chosen in (("channels", ...), ("foreground", inside)):
            mine, theirs = found[seen][c], values[chosen].astype(np.float64).ravel()
            expected = np.percentile(theirs, PERCENTILES)
            np.testing.assert_allclose(list(mine["percentiles"].values()), expected, rtol=rtol)
            # Sums of float64 in another order.
            assert mine["mean"] == pytest.approx(theirs.mean(), rel=1e-13)
            assert mine["std"] == pytest.approx(theirs.std(), rel=1e-12)


MANY = (64, 128, 160)
RANDOM = np.random.default_rng(5)
FIELDS = {
    "around zero": RANDOM.normal(0, 1, MANY),
    "skewed": RANDOM.lognormal(0, 3, MANY),
    "counts": RANDOM.exponential(1e6, MANY).round(),
    "tiny": RANDOM.normal(1e-20, 1e-21, MANY),
    "one outlier": np.where(np.indices(MANY).sum(0) == 0, 1e30, RANDOM.random(MANY)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_percentiles_of_many_floats_are_within_a_thousandth(name):
    array = FIELDS[name].astype(np.float32)[None]
    found = gathered(array)["channels"][0]
    expected = np.percentile(array.astype(np.float64), PERCENTILES)
    np.testing.assert_allclose(list(found["percentiles"].values()), expected, rtol=1e-3)
    assert (found["min"], found["max"]) == (array.min(), array.max())


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_percentiles_of_many_integers_are_within_a_30_000th_of_their_range(dtype):
    array = FIELDS["counts"].astype(dtype)[None]
    found = gathered(array)["channels"][0]
    expected = np.percentile(array.astype(np.float64), PERCENTILES)
    bound = np.ptp(array) / 30_000
    np.testing.assert_allclose(list(found["percentiles"].values()), expected, rtol=0, atol=bound)
    assert (found["min"], found["max"]) == (array.min(), array.max())


def test_elevations_that_differ_little_keep_their_percentiles():
    array = np.random.default_rng(0).normal(3000, 5, (1, *MANY)).astype(np.float32)
    found = gathered(array)["channels"][0]["percentiles"]
    expected = np.percentile(array.astype(np.float64), PERCENTILES)
    # In metres: bins are 2 mm wide at most.
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
def test_the_histogram_counts_every_voxel_in_at_most_256_bins(dtype):
    values = np.random.default_rng(0).normal(900, 200, (1, *MANY)).clip(0, 3e4).astype(dtype)
    found = gathered(values)["channels"][0]["histogram"]
    assert len(found["counts"]) <= 256
    assert found["edges"] == sorted(found["edges"])
    edges = np.array(found["edges"])
    counts = np.histogram(values.astype(np.float64), edges)[0]
    np.testing.assert_array_equal(found["counts"], counts)
    assert sum(found["counts"]) == values.size
    if dtype != "float32":
        assert len(set(np.diff(edges)[:-1])) == 1


def test_a_histogram_of_one_value_is_one_bin():
    for dtype, edges in (("uint8", [7, 8]), ("float32", [7.0, 7.0])):
        found = gathered(np.full((1, *SHAPE), 7, dtype))["channels"][0]
        assert found["histogram"] == {"edges": edges, "counts": [np.prod(SHAPE)]}
        assert set(found["percentiles"].values()) == {7.0}


def test_many_channels_share_the_room_of_a_histogram():
    array = np.random.default_rng(0).random((70, 16, 16)).astype(np.float32)
    found = gathered(array)["channels"]
    assert {len(c["histogram"]["counts"]) for c in found} <= set(range(40, 59))


def test_the_nonzero_box_is_the_smallest_around_all_that_is_not_zero():
    random = np.random.default_rng(0)
    for dtype in ("uint8", "int16", "float32"):
        for _ in range(20):
            array = np.zeros((2, *SHAPE), dtype)
            for voxel in random.integers(0, SHAPE, (4, 3)):
                array[(random.integers(2), *voxel)] = random.choice([1, 100])
            valid = random.random(SHAPE) < 0.6
            seen = np.argwhere((array != 0).any(axis=0) & valid)
            box = {"start": seen.min(0).tolist(), "stop": (seen.max(0) + 1).tolist()}
            assert gathered(array, valid=valid)["nonzero_box"] == box


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_zeros_of_either_sign_have_no_box(dtype):
    zeros = np.zeros((1, *SHAPE), dtype)
    assert gathered(zeros)["nonzero_box"] is None
    assert gathered(-zeros)["nonzero_box"] is None
    whole = {"start": [0, 0, 0], "stop": list(SHAPE)}
    assert gathered(zeros + 1)["nonzero_box"] == whole


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
def test_moments_of_nonzero_voxels_are_those_of_voxels_with_any_channel_not_zero(dtype, masked):
    random = np.random.default_rng(3)
    array = random.normal(500, 40, (2, *SHAPE)).clip(0, 255).astype(dtype)
    array[:, random.random(SHAPE) < 0.6] = 0
    array[0, random.random(SHAPE) < 0.2] = 0  # in one channel only
    if dtype.startswith("float"):
        array[:, :2] = -0.0
    valid = random.random(SHAPE) < 0.7 if masked else None
    found = gathered(array, valid=valid)
    inside = (array != 0).any(axis=0) & (True if valid is None else valid)
    for of, values in zip(found["nonzero"], array.astype(np.float64), strict=True):
        assert of["voxels"] == inside.sum()
        assert of["mean"] == pytest.approx(values[inside].mean(), rel=1e-13)
        assert of["std"] == pytest.approx(values[inside].std(), rel=1e-12)
    told = np.ones(SHAPE, bool) if valid is None else valid
    for of, values in zip(found["channels"], array.astype(np.float64), strict=True):
        assert of["mean"] == pytest.approx(values[told].mean(), rel=1e-13)
        assert of["std"] == pytest.approx(values[told].std(), rel=1e-12)


def test_nonzero_voxels_of_one_value_do_not_differ_by_rounding():
    array = np.zeros((1, *SHAPE), np.float32)
    array[0, 3:9, 5:20] = 0.1
    assert gathered(array)["nonzero"][0]["std"] <= 1e-16
    assert gathered(np.zeros((1, *SHAPE), np.float32))["nonzero"] == []


def test_where_no_class_is_seen_there_is_no_foreground():
    array = whole_numbers("uint8")
    assert gathered(array)["foreground"] == []
    assert gathered(array)["class_voxels"] == []
    assert gathered(array, np.zeros(SHAPE, "u1"))["foreground"] == []
    unlabelled = gathered(array, np.full(SHAPE, 255, "u1"), background=None)
    assert unlabelled["foreground"] == []
    assert unlabelled["class_voxels"] == [0, 0, 0]
    assert unlabelled["positions"] == [[], [], []]


def test_without_a_background_every_class_is_foreground():
    found = gathered(whole_numbers("uint8"), labels(), background=None)
    assert found["foreground"][0]["voxels"] == sum(found["class_voxels"])


def test_many_classes_are_counted_too():
    truth = np.random.default_rng(0).integers(0, 300, SHAPE).astype(np.uint16)
    truth[0] = no_label("uint16")
    volume = Volume(whole_numbers("uint8"), voxel_grid(SHAPE))
    found = collector(volume, classes=299)
    found.add(Window.whole(SHAPE), volume, truth)
    counts = np.bincount(truth.ravel())[:299]
    assert found.to_json()["class_voxels"] == counts.tolist()
    assert [len(p) for p in found.to_json()["positions"]] == np.minimum(counts, 256).tolist()


def test_positions_are_distinct_voxels_of_their_class():
    truth = labels()
    valid = np.random.default_rng(1).random(SHAPE) < 0.5
    truth[truth == 2] = 0
    truth[3, 4:6, 5:25] = 2
    found = gathered(whole_numbers("uint8"), truth, valid)
    for label, positions in enumerate(found["positions"]):
        here = (truth == label) & valid
        assert len({tuple(p) for p in positions}) == min(POSITIONS, here.sum())
        assert all(here[tuple(p)] for p in positions)


def test_positions_are_spread_evenly_over_the_class():
    # Blocks of very different content: class 1 fills some, and is rare in others.
    shape, chunk = (96, 64, 64), (8, 16, 16)
    truth = np.zeros(shape, np.uint8)
    truth[:32] = 1
    truth[32:64, ::4, ::4] = 1
    truth[64:, ::16, 5] = 1
    volume = Volume(np.zeros((1, *shape), np.uint8), voxel_grid(shape))
    where = np.argwhere(truth == 1)
    part = (np.arange(len(where)) * 20 // len(where)).astype(int)  # twenty equal parts
    part_of = dict(zip(map(tuple, where.tolist()), part, strict=True))
    counts = np.zeros(20)
    for background in range(10):  # another label has other random numbers
        relabelled = np.where(truth == 1, background, 255).astype(np.uint8)
        found = CaseStatistics(shape, "uint8", 1, 10, None, chunk)
        found.add(Window.whole(shape), volume, relabelled)
        for position in found.to_json()["positions"][background]:
            counts[part_of[tuple(position)]] += 1
    expected = 10 * POSITIONS / 20
    # The 99.9th percentile of chi-square with 19 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 43.8


def parts(array, truth, valid, step):
    """Give the statistics of every box by itself."""
    volume = Volume(array, voxel_grid(array.shape[1:]), valid)
    found = []
    for window in aligned_windows(array.shape[1:], step):
        part = collector(volume)
        part.add(window, crop(volume, window), truth[window.slices])
        found.append(part)
    return found


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_threads_find_the_same_bytes_as_a_loop(dtype):
    array = (
        np.random.default_rng(0).normal(1e5 * (dtype != "uint8"), 40, (2, *SHAPE)).clip(-3e4, 3e4)
    )
    volume, truth = Volume(array.astype(dtype), voxel_grid(SHAPE)), labels()
    windows = aligned_windows(SHAPE, (8, 32, 16))

    def one(window):
        part = collector(volume)
        part.add(window, crop(volume, window), truth[window.slices])
        return part

    serial, threaded = collector(volume), collector(volume)
    for window in windows:
        serial.add(window, crop(volume, window), truth[window.slices])
    with ThreadPoolExecutor(4) as pool:
        for part in pool.map(one, windows[::-1]):
            threaded.merge(part)
    assert json.dumps(threaded.to_json()) == json.dumps(serial.to_json())


def test_a_box_that_shares_a_chunk_is_refused():
    volume = Volume(whole_numbers("uint8"), voxel_grid(SHAPE))
    window = Window((0, 0, 8), (8, 16, 16))
    with pytest.raises(GridError, match=r"chunks are \(8, 16, 16\): boxes start and end on chunk"):
        collector(volume).add(window, crop(volume, window), labels()[window.slices])


def test_a_box_without_data_changes_nothing():
    volume = Volume(np.full((1, *SHAPE), np.nan, "f4"), voxel_grid(SHAPE), np.zeros(SHAPE, bool))
    found = collector(volume)
    found.add(Window.whole(SHAPE), volume, labels())
    assert found.valid_voxels == 0


def test_a_box_is_measured_in_less_memory_than_it_takes_itself():
    shape = (64, 512, 512)
    array = np.random.default_rng(0).integers(-1000, 3000, (1, *shape), np.int16)
    volume, truth = Volume(array, voxel_grid(shape)), np.zeros(shape, np.uint8)
    truth[20:40, 100:200, 100:200] = 1
    found = collector(volume, (64, 64, 64))
    tracemalloc.start()
    try:
        found.add(Window.whole(shape), volume, truth)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes


def test_statistics_of_many_channels_stay_small():
    array = np.random.default_rng(0).random((64, 256, 256)).astype(np.float32)
    volume = Volume(array, voxel_grid((256, 256)))
    found = collector(volume, (256, 256))
    tracemalloc.start()
    try:
        found.add(Window.whole((256, 256)), volume, np.ones((256, 256), np.uint8))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 64 * 2**20
