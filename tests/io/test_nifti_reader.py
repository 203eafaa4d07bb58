"""NIfTI files read by window: mapped, in slabs, through a scratch file, and damaged ones."""

import gzip
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import CaseError, GridError
from pipeline.io.readers.medical import gzip_stream, inflated_voxels, raw_voxels
from pipeline.io.readers.medical.nifti import open_source
from pipeline.space import Window

RANDOM = np.random.default_rng(0)
VOXELS = RANDOM.integers(-500, 500, (7, 6, 40)).astype(np.int16)
"""(X, Y, Z), as nibabel gives them."""
PLANE_BYTES = 7 * 6 * 2


@pytest.fixture
def small_budget(monkeypatch):
    """Let a slab hold five planes of VOXELS, and no volume whole."""
    monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
    monkeypatch.setattr(inflated_voxels, "SLAB_BYTES", 5 * PLANE_BYTES)
    monkeypatch.setattr(inflated_voxels, "PIECE", 100)
    monkeypatch.setattr(gzip_stream, "CHUNK", 64)


@pytest.fixture
def passes(monkeypatch):
    """Give a list to which each stream is added when it is begun."""
    begun = []

    class Counted(gzip_stream.InflateStream):
        def __init__(self, *args):
            super().__init__(*args)
            begun.append(self)

    monkeypatch.setattr(inflated_voxels, "InflateStream", Counted)
    return begun


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def slabs(depth, step):
    return [Window((z, 0, 0), (min(step, depth - z), 6, 7)) for z in range(0, depth, step)]


def assert_window(source, window, voxels=VOXELS):
    expected = voxels.T[(..., *window.slices)].reshape(-1, *window.shape)
    part = source.read(window)
    np.testing.assert_array_equal(part.array, expected)
    assert part.grid == source.grid.cropped(window)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_reader_says_how_it_is_best_read(tmp_path, write_scan, suffix, monkeypatch):
    path = write_scan(tmp_path / f"a{suffix}", VOXELS)
    source = open_source(path, "image")
    assert source.block == (1, 6, 7) and not source.sequential
    monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
    assert open_source(path, "image").sequential == (suffix == ".nii.gz")


def test_plain_voxels_are_not_copied(tmp_path, write_scan):
    source = open_source(write_scan(tmp_path / "a.nii", VOXELS), "image")
    array = source.read(Window((3, 0, 0), (5, 6, 7))).array
    assert not array.flags.owndata and not array.flags.writeable


@pytest.mark.parametrize("step", [1, 4, 5, 7, 40], ids="{} planes at once".format)
def test_slabs_in_order_are_one_pass(tmp_path, write_scan, small_budget, passes, step):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    for window in slabs(40, step):
        assert_window(source, window)
    assert len(passes) == 1


def test_tiles_side_by_side_inflate_their_planes_once(tmp_path, write_scan, small_budget, passes):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    for z in range(0, 40, 5):
        for y in (0, 3):
            for x in (0, 4):
                assert_window(source, Window((z, y, x), (5, 3, 3)))
    assert len(passes) == 1


def test_slabs_that_overlap_keep_what_they_share(tmp_path, write_scan, small_budget, passes):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    for z in range(0, 36, 3):
        assert_window(source, Window((z, 0, 0), (5, 6, 7)))
    assert len(passes) == 1


def test_windows_in_no_order_are_read_from_a_scratch_file(
    tmp_path, write_scan, small_budget, passes
):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    order = RANDOM.permutation(38)
    for z in order:
        assert_window(source, Window((int(z), 1, 2), (2, 4, 3)))
    assert 2 < len(passes) <= inflated_voxels.MOST_PASSES + 2


def test_a_window_before_the_last_one_begins_the_stream_anew(
    tmp_path, write_scan, small_budget, passes
):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    for z in (30, 10, 20):
        assert_window(source, Window((z, 0, 0), (5, 6, 7)))
    assert len(passes) == 2


def test_channels_of_a_stream_are_read_from_a_scratch_file(
    tmp_path, write_scan, small_budget, passes, monkeypatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    voxels = np.stack([VOXELS, VOXELS + 1, VOXELS * 2], axis=-1)
    source = open_source(write_scan(tmp_path / "a.nii.gz", voxels), "image")
    assert source.channels == 3 and not source.sequential
    for z in RANDOM.permutation(36):
        assert_window(source, Window((int(z), 1, 0), (4, 5, 7)), voxels)
    assert len(passes) == 1
    # It has no name: nothing is left behind, whatever happens.
    assert list(scratch.iterdir()) == []


def test_planes_beyond_the_budget_are_read_from_a_scratch_file(
    tmp_path, write_scan, small_budget, monkeypatch
):
    monkeypatch.setattr(inflated_voxels, "SLAB_BYTES", PLANE_BYTES - 1)
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    assert not source.sequential
    assert_window(source, Window.whole((40, 6, 7)))


def test_a_scratch_folder_without_space_is_named(tmp_path, write_scan, small_budget, monkeypatch):
    voxels = np.stack([VOXELS, VOXELS], axis=-1)
    source = open_source(write_scan(tmp_path / "a.nii.gz", voxels), "image")
    full = inflated_voxels.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(inflated_voxels.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(CaseError, match="needs 0 MiB of scratch space.*TMPDIR"):
        whole(source)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_windows_can_be_read_from_several_threads(tmp_path, write_scan, suffix):
    source = open_source(write_scan(tmp_path / f"a{suffix}", VOXELS), "image")
    windows = [Window((int(z), 0, 0), (3, 6, 7)) for z in RANDOM.integers(0, 37, 60)]
    with ThreadPoolExecutor(8) as threads:
        for window, part in zip(windows, threads.map(source.read, windows), strict=True):
            np.testing.assert_array_equal(part.array[0], VOXELS.T[window.slices])


def test_a_stream_of_several_members_is_one_file(tmp_path, write_scan, small_budget):
    content = write_scan(tmp_path / "a.nii", VOXELS).read_bytes()
    pieces = [content[at : at + 333] for at in range(0, len(content), 333)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(map(gzip.compress, pieces)) + bytes(600))
    source = open_source(path, "image")
    for window in slabs(40, 3):
        assert_window(source, window)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_empty_windows_hold_nothing_and_outer_ones_are_refused(tmp_path, write_scan, suffix):
    source = open_source(write_scan(tmp_path / f"a{suffix}", VOXELS), "image")
    assert source.read(Window((40, 0, 0), (0, 6, 7))).array.shape == (1, 0, 6, 7)
    with pytest.raises(GridError, match="reaches outside"):
        source.read(Window((39, 0, 0), (2, 6, 7)))


def header_of(voxels, **fields):
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["vox_offset"] = 352
    for name, value in fields.items():
        image.header[name] = value
    return image.header.binaryblock + bytes(4)


def test_a_few_bytes_behind_the_voxels_are_tolerated_and_many_are_not(tmp_path, monkeypatch):
    content = header_of(VOXELS) + VOXELS.tobytes("F")
    for name, pack in (("a.nii", bytes), ("a.nii.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack(content + bytes(raw_voxels.SPARE_BYTES)))
        assert_window(open_source(path, "image"), Window.whole((40, 6, 7)))
        path.write_bytes(pack(content + bytes(raw_voxels.SPARE_BYTES + 1)))
        with pytest.raises(CaseError, match="truncated or damaged"):
            whole(open_source(path, "image"))


def claims(**fields):
    return lambda path: path.write_bytes(header_of(VOXELS, **fields) + VOXELS.tobytes("F"))


def dims(*sizes):
    return claims(dim=[len(sizes), *sizes, *[1] * (7 - len(sizes))])


DAMAGES = {
    "nothing in it": lambda path: path.write_bytes(b""),
    "half a header": lambda path: path.write_bytes(header_of(VOXELS)[:200]),
    "voxels cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "huge axes": dims(32767, 32767, 32767, 32767),
    "seven huge axes": dims(32767, 32767, 32767, 32767, 1, 1, 1),
    "a negative axis": dims(-7, 6, 40),
    "no axis": claims(dim=[0, 7, 6, 40, 1, 1, 1, 1]),
    "too many axes": claims(dim=[9, 7, 6, 40, 1, 1, 1, 1]),
    "voxels far behind the end": claims(vox_offset=1e12),
    "voxels in the header": claims(vox_offset=0),
    "voxels in no place": claims(vox_offset=np.nan),
    "voxels at infinity": claims(vox_offset=np.inf),
    "half of a pair": claims(magic=b"ni1"),
    "an unknown type": claims(datatype=999),
    "an impossible quaternion": claims(sform_code=0, qform_code=1, quatern_b=9),
    "an infinite scale": claims(scl_slope=1, scl_inter=np.inf),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_a_damaged_file_is_refused_with_little_memory(tmp_path, write_scan, damage, zipped):
    path = write_scan(tmp_path / "a.nii", VOXELS)
    damage(path)
    if zipped:
        content = gzip.compress(path.read_bytes())
        path = tmp_path / "a.nii.gz"
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CaseError, match=r"truncated or damaged|has shape|no place"):
            whole(open_source(path, "image"))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("budget", ["whole", "slabs"])
@pytest.mark.parametrize("at", [0.3, 0.6, 0.999])
@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_a_damaged_stream_is_noticed(tmp_path, write_scan, request, budget, at, harm):
    if budget == "slabs":
        request.getfixturevalue("small_budget")
    path = write_scan(tmp_path / "a.nii.gz", VOXELS)
    content = bytearray(path.read_bytes())
    place = int(len(content) * at)
    if harm == "cut":
        del content[place:]
    else:
        content[place] ^= 16
    path.write_bytes(content)
    with pytest.raises(CaseError, match=r"a.nii.gz cannot be read: it is truncated or damaged"):
        source = open_source(path, "image")
        for window in slabs(40, 4):
            source.read(window)


def zeros(size):
    """Members of a gzip stream that are zeros, made without holding them."""
    return gzip.compress(bytes(2**24)) * (size >> 24)


@pytest.mark.parametrize("shape", [(10, 1, 1), (10, 1, 1, 2)])
def test_a_bomb_is_refused_early_and_with_little_memory(tmp_path, passes, shape):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header_of(np.zeros(shape, np.uint8))) + zeros(2**30))
    tracemalloc.start()
    try:
        with pytest.raises(CaseError, match="goes on for more than 1048576 bytes"):
            whole(open_source(path, "image"))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
    assert [stream.position for stream in passes] == [352 + np.prod(shape) + 2**20 + 1]


def test_a_large_header_extension_is_passed_over_and_not_held(tmp_path):
    size = 64 * 2**20
    header = header_of(VOXELS, vox_offset=352 + size)[:348] + b"\1\0\0\0"
    members = [gzip.compress(header), zeros(size), gzip.compress(VOXELS.tobytes("F"))]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(members))
    tracemalloc.start()
    try:
        assert_window(open_source(path, "image"), Window.whole((40, 6, 7)))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, write_scan):
    path = write_scan(tmp_path / "a.nii", VOXELS)
    source = open_source(path, "image")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CaseError, match="it became shorter while it was read"):
        whole(source)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_garbled_header_gives_voxels_or_a_refusal(tmp_path, write_scan, suffix):
    content = write_scan(tmp_path / "a.nii", VOXELS).read_bytes()
    path = tmp_path / f"b{suffix}"
    random = np.random.default_rng(3)
    for _ in range(500):
        garbled = bytearray(content)
        for _ in range(random.integers(1, 6)):
            garbled[random.integers(352)] = random.integers(256)
        path.write_bytes(gzip.compress(garbled, 1) if suffix == ".nii.gz" else garbled)
        try:
            source = open_source(path, "image")
            assert whole(source).array.dtype == source.dtype
        except CaseError as refusal:
            assert refusal.reason.startswith(path.name)
