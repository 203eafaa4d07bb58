"""MetaImage and NRRD as SimpleITK sees them."""

from itertools import product

import numpy as np
import pytest
import SimpleITK

from pipeline.errors import CaseError
from pipeline.io.readers.medical import inflated_voxels
from pipeline.io.readers.medical.itk import companions, open_source
from pipeline.space import Window

SUFFIXES = [".mha", ".mhd", ".nrrd", ".nhdr"]
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
TILTED = (0.8, -0.6, 0.0, 0.48, 0.64, -0.6, 0.36, 0.48, 0.8)
RANDOM = np.random.default_rng(0)
VOXELS = RANDOM.integers(-500, 500, (6, 5, 4)).astype(np.int16)


def whole(source):
    return source.read(Window.whole(source.grid.shape))


def write(path, array, *, vector=False, compressed=False, directions=None):
    """Write (Z, Y, X[, C]) or (Y, X[, C]) with SimpleITK, somewhere in space."""
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    axes = image.GetDimension()
    image.SetSpacing((0.7, 0.9, 2.5, 1.0)[:axes])
    image.SetOrigin((-12.5, 40.25, 7.125, 0.0)[:axes])
    if directions is not None:
        image.SetDirection(directions)
    SimpleITK.WriteImage(image, path, useCompression=compressed)
    return path


def assert_as_simpleitk_reads(path):
    """Every voxel has the value and the place that SimpleITK gives it."""
    image = SimpleITK.ReadImage(path)
    source = open_source(path, "image")
    axes = min(image.GetDimension(), 3)
    expected = SimpleITK.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        expected = np.moveaxis(expected, -1, 0)
    if expected.dtype == np.float64:
        expected = expected.astype(np.float32)
    expected = expected.reshape(-1, *image.GetSize()[:axes][::-1])
    volume = whole(source)
    assert volume.array.dtype == source.dtype and source.channels == len(volume.array)
    assert source.grid.unit == "millimeter"
    np.testing.assert_array_equal(volume.array, expected)
    for xyz in product(*[(0, n - 1) for n in image.GetSize()[:axes]]):
        index = (*xyz, 0) if image.GetDimension() == 4 else xyz
        place = np.array(image.TransformIndexToPhysicalPoint(index)[:axes])
        place[:2] *= -1  # SimpleITK speaks LPS
        np.testing.assert_allclose(source.grid.index_to_world(xyz[::-1]), place, atol=1e-9)
    return source


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_read_as_simpleitk_reads_it(tmp_path, dtype, suffix, compressed):
    array = (RANDOM.normal(size=(6, 5, 4)) * 100).astype(dtype)
    path = write(tmp_path / f"a{suffix}", array, compressed=compressed)
    source = assert_as_simpleitk_reads(path)
    assert source.dtype == ("float32" if dtype == "f8" else dtype)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("shape", "vector", "channels"),
    [
        ((6, 5, 4), False, 1),
        ((6, 5, 4, 3), True, 3),
        ((6, 5), False, 1),
        ((6, 5, 3), True, 3),
        ((2, 6, 5, 4), False, 2),
    ],
    ids=["volume", "vectors", "picture", "colours", "fourth axis"],
)
def test_channels_and_axes_are_simpleitks(tmp_path, shape, vector, channels, suffix, compressed):
    array = RANDOM.integers(0, 99, shape).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", array, vector=vector, compressed=compressed)
    assert assert_as_simpleitk_reads(path).channels == channels


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("array", "directions"),
    [(VOXELS, TILTED), (VOXELS, (-1, 0, 0, 0, -1, 0, 0, 0, 1)), (VOXELS[0], (0, -1, 1, 0))],
    ids=["tilted", "RAS", "turned picture"],
)
def test_directions_are_simpleitks(tmp_path, suffix, array, directions):
    assert_as_simpleitk_reads(write(tmp_path / f"a{suffix}", array, directions=directions))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wide_whole_numbers_are_kept_where_they_fit(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", VOXELS.astype(np.int64))
    source = open_source(path, "mask")
    assert source.dtype == np.int32
    np.testing.assert_array_equal(whole(source).array[0], VOXELS)
    path = write(tmp_path / f"b{suffix}", VOXELS.astype(np.int64) << 40)
    with pytest.raises(CaseError, match="at most 32 bits are kept"):
        whole(open_source(path, "mask"))


META = {"NDims": "3", "DimSize": "4 5 6", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"}
NRRD = {
    "type": "short",
    "dimension": "3",
    "sizes": "4 5 6",
    "endian": "little",
    "encoding": "raw",
}
FAR = {"space directions": "(0,1,0) (-2,0,0) (0,0,3)", "space origin": "(5,6,7)"}


def write_meta(path, data=None, **changes):
    fields = {**{k: v for k, v in META.items() if k not in changes}, **changes}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    text = "".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None)
    path.write_bytes(text.encode() + (VOXELS.tobytes() if data is None else data))
    return path


def write_nrrd(path, changes, data=None, end="\n"):
    fields = NRRD | changes
    text = "NRRD0005\n" + "".join(f"{k}: {v}\n" for k, v in fields.items() if v is not None)
    path.write_bytes((text + end).encode() + (VOXELS.tobytes() if data is None else data))
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"ElementSize": "1 2 3"},
        {"ElementSize": "1 2 3", "ElementSpacing": "4 5 6"},
        {"Position": "5 6 7", "Rotation": "0 1 0 -1 0 0 0 0 1", "ElementSpacing": "1 2 3"},
        {"Origin": "5 6 7", "Orientation": "0 1 0 -1 0 0 0 0 1"},
        {"DistanceUnits": "cm", "ElementSpacing": "1 2 3"},
        {"BinaryDataByteOrderMSB": "True"},
        {"ElementByteOrderMSB": "true"},
        {"BinaryData": "1", "CompressedData": "no", "Comment": "a = b: c"},
        {"AnatomicalOrientation": "RAS", "ObjectType": "Image"},
        {"HeaderSize": "-1"},
        {"ElementType": "MET_LONG", "DimSize": "4 5 3"},
        {"ElementNumberOfChannels": "2", "DimSize": "4 5 3"},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_headers_of_other_programs_mean_what_itk_takes_them_for(tmp_path, fields):
    assert_as_simpleitk_reads(write_meta(tmp_path / "a.mha", **fields))


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({}, None),
        *[
            ({"space": space} | FAR, None)
            for space in ("RAS", "left-posterior-superior", "LAS", "scanner-xyz")
        ],
        ({"space dimension": "3", "content": ""} | FAR, None),
        ({"spacings": "1 2 nan"}, None),
        ({"spacings": "1 2 -3", "axis mins": "5 6 7"}, None),
        ({"spacings": "1 2 3", "axis mins": "5 6 7", "centers": "node node cell"}, None),
        ({"endian": "big", "type": "unsigned short int"}, None),
        ({"byte skip": "4"}, b"skip" + VOXELS.tobytes()),
        ({"byteskip": "-1"}, b"to be passed over" + VOXELS.tobytes()),
        ({"dimension": "4", "sizes": "2 5 6 2", "kinds": "vector space space space"}, None),
        ({"dimension": "4", "sizes": "2 5 6 2", "kinds": "space space space list"}, None),
        ({"dimension": "3", "sizes": "3 8 5", "kinds": "RGB-color domain domain"}, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_nrrd_fields_mean_what_itk_takes_them_for(tmp_path, fields, data):
    assert_as_simpleitk_reads(write_nrrd(tmp_path / "a.nrrd", fields, data))


def test_a_list_of_slice_files_is_one_volume(tmp_path):
    names = [f"s{z:02d}.raw" for z in range(6)]
    for name, plane in zip(names, VOXELS, strict=True):
        (tmp_path / name).write_bytes(plane.tobytes())
    listed = "".join(f"{name}\n" for name in names).encode()
    paths = [
        write_meta(tmp_path / "a.mhd", listed, ElementDataFile="LIST"),
        write_meta(tmp_path / "b.mhd", b"", ElementDataFile="s%02d.raw 0 5 1"),
        write_nrrd(tmp_path / "a.nhdr", {"data file": "LIST"}, listed, end=""),
        write_nrrd(tmp_path / "b.nhdr", {"data file": "s%02d.raw 0 5 1"}, b""),
    ]
    for path in paths:
        source = assert_as_simpleitk_reads(path)
        window = Window((1, 2, 3), (4, 2, 1))
        np.testing.assert_array_equal(source.read(window).array[0], VOXELS[window.slices])
        assert source.read(Window((6, 0, 0), (0, 5, 4))).array.shape == (1, 0, 5, 4)
        assert [file.name for file in companions(path)] == names


def test_a_list_of_one_file_per_channel_is_one_volume(tmp_path):
    for channel in range(2):
        (tmp_path / f"c{channel}.raw").write_bytes((VOXELS + channel).tobytes())
    path = write_nrrd(
        tmp_path / "a.nhdr",
        {"dimension": "4", "sizes": "4 5 6 2", "data file": "c%d.raw 0 1 1"},
        b"",
    )
    source = assert_as_simpleitk_reads(path)
    np.testing.assert_array_equal(whole(source).array, [VOXELS, VOXELS + 1])


def test_a_header_names_the_files_that_belong_to_it(tmp_path):
    for suffix in SUFFIXES:
        path = write(tmp_path / f"a{suffix}", VOXELS)
        beside = [f for f in tmp_path.iterdir() if f.suffix not in SUFFIXES]
        assert list(companions(path)) == beside
        for file in (path, *beside):
            file.unlink()
    assert companions(tmp_path / "a.nii") == ()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_large_compressed_file_is_read_in_slabs(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
    array = RANDOM.integers(0, 9, (20, 5, 4, 2)).astype(np.uint8)
    path = write(tmp_path / f"a{suffix}", array, vector=True, compressed=True)
    source = open_source(path, "image")
    assert source.sequential and source.block == (1, 5, 4)
    for z in RANDOM.permutation(17):
        part = source.read(Window((int(z), 1, 0), (3, 4, 4))).array
        np.testing.assert_array_equal(part, np.moveaxis(array[z : z + 3, 1:], -1, 0))


def test_a_file_that_says_nothing_of_its_place_is_not_placed(tmp_path):
    assert not open_source(write_meta(tmp_path / "a.mha"), "mask").placed
    assert not open_source(write_nrrd(tmp_path / "a.nrrd", {}), "mask").placed
    assert open_source(write_nrrd(tmp_path / "b.nrrd", FAR | {"space": "LPS"}), "mask").placed


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.9, 0.999])
def test_a_truncated_file_is_the_cases_fault(tmp_path, suffix, compressed, keep):
    path = write(tmp_path / f"a{suffix}", RANDOM.normal(size=(9, 8, 7)), compressed=compressed)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CaseError, match=r"a\.\w+ cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_flipped_bit_in_a_compressed_file_is_noticed(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", RANDOM.normal(size=(9, 8, 7)), compressed=True)
    content = bytearray(path.read_bytes())
    content[-500] ^= 16
    path.write_bytes(content)
    with pytest.raises(CaseError, match="truncated or damaged"):
        whole(open_source(path, "image"))


@pytest.mark.parametrize(
    ("suffix", "fields"),
    [
        (".mha", {"DimSize": "40000 50000 60000"}),
        (".mha", {"DimSize": "40000 50000 60000", "CompressedData": "True"}),
        (".mha", {"DimSize": "-4 5 6"}),
        (".mha", {"DimSize": "4 5"}),
        (".mha", {"DimSize": "99999999999999999999 9 9"}),
        (".mha", {"NDims": "11"}),
        (".mha", {"NDims": None}),
        (".mha", {"HeaderSize": "9999999999"}),
        (".mha", {"HeaderSize": "-1", "DimSize": "40 50 60"}),
        (".mha", {"HeaderSize": "-7"}),
        (".mha", {"ElementNumberOfChannels": "0"}),
        (".mha", {"ElementDataFile": "LIST"}),
        (".mha", {"Offset": "1 2"}),
        (".nrrd", {"sizes": "40000 50000 60000"}),
        (".nrrd", {"sizes": "40000 50000 60000", "encoding": "gzip"}),
        (".nrrd", {"sizes": "4 -5 6"}),
        (".nrrd", {"sizes": "4 5"}),
        (".nrrd", {"dimension": "1000000000000"}),
        (".nrrd", {"endian": "middle"}),
        (".nrrd", {"byte skip": "9999999999"}),
        (".nrrd", {"byte skip": "-3"}),
        (".nrrd", {"space directions": "(1,0,0) (0,1,0)"}),
        (".nrrd", {"space directions": "(1,0) (0,1) (1,1)"}),
        (".nrrd", {"data file": "LIST"}),
        (".nrrd", {"data file": "s%d.raw 0 99999999999 1"}),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_before_memory_is_taken(tmp_path, suffix, fields):
    path = tmp_path / f"a{suffix}"
    _ = write_meta(path, **fields) if suffix == ".mha" else write_nrrd(path, fields)
    with pytest.raises(CaseError, match=r"a\.\w+ cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


@pytest.mark.parametrize(
    ("suffix", "fields", "said"),
    [
        (".mha", {"ElementType": "MET_STRING"}, "holds elements of type MET_STRING"),
        (".mha", {"BinaryData": "False"}, "stores its voxels as text: binary or gzip"),
        (".mha", {"ElementSpacing": "1 0 1"}, "an affine that maps voxels to no place"),
        (
            ".mha",
            {"NDims": "4", "DimSize": "2 2 2 2", "ElementNumberOfChannels": "2"},
            "2 channels and a fourth axis: one of them",
        ),
        (".nrrd", {"encoding": "bzip2"}, "stores its voxels as bzip2"),
        (".nrrd", {"type": "block"}, "holds elements of type block: numbers are expected"),
        (".nrrd", {"line skip": "1"}, "stores its voxels as lines of text"),
        (".nrrd", {"axis mins": "1 2 3"}, "gives the ends of its axes and no spacings"),
        (".nrrd", {"kinds": "domain vector domain"}, "axes of kinds domain, vector, domain"),
        (".nrrd", {"kinds": "complex domain domain"}, "axes of kinds complex"),
    ],
)
def test_what_segflow_does_not_read_is_refused_with_a_remedy(tmp_path, suffix, fields, said):
    path = tmp_path / f"a{suffix}"
    _ = write_meta(path, **fields) if suffix == ".mha" else write_nrrd(path, fields)
    with pytest.raises(CaseError, match=said):
        whole(open_source(path, "image"))


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.raw", "sub/../../a.raw", "link.raw"])
def test_a_header_cannot_name_files_outside_its_folder(tmp_path, name):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    for path in (
        write_meta(folder / "a.mhd", b"", ElementDataFile=name),
        write_nrrd(folder / "a.nhdr", {"data file": name}, b""),
        write_meta(folder / "b.mhd", b"\n".join([name.encode()] * 6), ElementDataFile="LIST"),
    ):
        for use in (companions, lambda p: open_source(p, "image")):
            with pytest.raises(CaseError, match="names a file of voxels outside its folder"):
                use(path)


def test_a_linked_header_has_its_voxels_beside_what_it_links_to(tmp_path):
    store, linked = tmp_path / "store", tmp_path / "linked"
    store.mkdir()
    linked.mkdir()
    write(store / "a.mhd", VOXELS)
    for name in ("a.mhd", "a.raw"):
        (linked / name).symlink_to(store / name)
    np.testing.assert_array_equal(whole(open_source(linked / "a.mhd", "image")).array[0], VOXELS)


def test_an_absent_file_of_voxels_is_named(tmp_path):
    path = write(tmp_path / "a.mhd", VOXELS)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(CaseError, match=r"names a file of voxels that does not exist \(a.raw\)"):
        companions(path)


HOSTILE = [b"-1", b"0", b"9" * 30, b"1e400", b"nan", b"%s%n", b"A" * 3000, b"LIST", b"none", b"\0"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_garbled_header_gives_voxels_or_a_refusal(tmp_path, suffix):
    """ITK's own parsers crash on some of these, and would take the worker with them."""
    path = write(tmp_path / f"a{suffix}", VOXELS, compressed=True)
    content = path.read_bytes()
    random = np.random.default_rng(3)
    for _ in range(300):
        garbled = bytearray(content)
        for _ in range(3):
            garbled[random.integers(len(content))] = random.integers(256)
        words = bytes(garbled).split(b" ")
        words[random.integers(len(words))] = HOSTILE[random.integers(len(HOSTILE))]
        path.write_bytes(b" ".join(words))
        try:
            source = open_source(path, "image")
            assert whole(source).array.dtype == source.dtype
        except CaseError as refusal:
            assert refusal.reason.startswith(path.name)
