"""NIfTI as nibabel and SimpleITK see it."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.errors import CaseError
from pipeline.io.readers import open_source
from pipeline.io.readers.medical import inflated_voxels
from pipeline.io.readers.medical.nifti import write_nifti
from pipeline.space import Grid, Window
from pipeline.space.grid import as_affine


def rotation(degrees):
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    about_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    return np.array(about_z) @ np.array(about_x)


def affine(degrees=0.0, signs=(1, 1, 1), spacing=(0.7, 0.9, 2.5)):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(degrees) @ np.diag(np.multiply(signs, spacing))
    matrix[:3, 3] = (-12.5, 40.25, 7.125)
    return matrix


AFFINES = {
    "RAS": affine(),
    "LPS": affine(signs=(-1, -1, 1)),
    "oblique": affine(degrees=25),
    "oblique and mirrored": affine(degrees=-40, signs=(-1, 1, 1)),
}
VOXELS = np.random.default_rng(0).integers(-500, 500, (6, 5, 4)).astype(np.int16)


def whole(source):
    return source.read(Window.whole(source.grid.shape))


@pytest.mark.parametrize("matrix", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_voxel_lies_where_nibabel_puts_it(tmp_path, write_scan, matrix, suffix):
    image = nib.load(write_scan(tmp_path / f"a{suffix}", VOXELS, matrix))
    source = open_source(tmp_path / f"a{suffix}", "image")
    volume = whole(source)
    assert (source.channels, source.dtype, source.grid.unit) == (1, np.int16, "millimeter")
    for ijk in np.ndindex(*VOXELS.shape):
        assert volume.array[(0, *ijk[::-1])] == VOXELS[ijk]
        place = nib.affines.apply_affine(image.affine, ijk)
        np.testing.assert_allclose(source.grid.index_to_world(ijk[::-1]), place, atol=1e-12)


@pytest.mark.parametrize("matrix", AFFINES.values(), ids=AFFINES)
def test_every_voxel_lies_where_simpleitk_puts_it(tmp_path, write_scan, matrix):
    image = SimpleITK.ReadImage(write_scan(tmp_path / "a.nii.gz", VOXELS, matrix))
    source = open_source(tmp_path / "a.nii.gz", "image")
    np.testing.assert_array_equal(whole(source).array[0], SimpleITK.GetArrayFromImage(image))
    np.testing.assert_allclose(source.grid.spacing, image.GetSpacing()[::-1], rtol=1e-5)
    for ijk in np.ndindex(*VOXELS.shape):
        x, y, z = image.TransformIndexToPhysicalPoint(ijk)
        # SimpleITK speaks LPS, and both read float32 from the header.
        np.testing.assert_allclose(source.grid.index_to_world(ijk[::-1]), (-x, -y, z), atol=1e-4)


def test_a_window_is_a_part_of_the_whole_with_its_own_place(tmp_path, write_scan):
    source = open_source(write_scan(tmp_path / "a.nii.gz", VOXELS), "image")
    window = Window((1, 2, 3), (2, 3, 2))
    part = source.read(window)
    np.testing.assert_array_equal(part.array[0], VOXELS.T[window.slices])
    assert part.grid == source.grid.cropped(window)


def test_scaled_values_are_read_as_nibabel_scales_them(tmp_path):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "a.nii.gz")
    source = open_source(tmp_path / "a.nii.gz", "image")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata().astype(np.float32)
    assert source.dtype == np.float32 and expected.min() < -200
    np.testing.assert_array_equal(whole(source).array[0], expected.T)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "i4", ">u4", "f4", ">f8", "i8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("slope", "inter"), [(0.0034, -1024.7), (-3, 0), (1, 5), (1, 0), (0, 9)])
def test_every_type_and_scale_is_nibabels(tmp_path, dtype, suffix, slope, inter):
    stored = np.dtype(dtype)
    order = ">" if stored.str.startswith(">") else "<"
    image = nib.Nifti1Image(VOXELS.astype("f4"), np.eye(4), nib.Nifti1Header(endianness=order))
    image.header.set_data_dtype(stored)
    for name, value in {"scl_slope": slope, "scl_inter": inter, "vox_offset": 352}.items():
        image.header[name] = value
    content = image.header.binaryblock + bytes(4) + VOXELS.astype(stored).tobytes("F")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    volume = whole(open_source(path, "image"))
    expected = np.asarray(nib.load(path).dataobj)
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0], expected.T.astype(volume.array.dtype))
    assert (volume.array.dtype.kind == "f") == (expected.dtype.kind == "f")


def test_the_fourth_axis_is_the_channel_axis(tmp_path, write_scan):
    voxels = np.stack([VOXELS, VOXELS + 1], axis=-1)
    source = open_source(write_scan(tmp_path / "a.nii.gz", voxels), "image")
    assert source.channels == 2
    np.testing.assert_array_equal(whole(source).array, np.stack([VOXELS.T, VOXELS.T + 1]))


@pytest.mark.parametrize(
    ("behind", "channels"), [((1, 3), 3), ((2, 1), 2), ((1,), 1), ((1, 1, 4), 4)]
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_axes_of_one_voxel_behind_the_third_are_passed_over(tmp_path, kind, behind, channels):
    voxels = np.random.default_rng(1).integers(0, 99, (6, 5, 4, *behind)).astype(np.uint8)
    nib.save(kind(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    source = open_source(tmp_path / "a.nii.gz", "image")
    assert source.channels == channels
    np.testing.assert_array_equal(whole(source).array, voxels.reshape(6, 5, 4, channels).T)


def test_two_axes_behind_the_third_are_too_many(tmp_path, write_scan):
    path = write_scan(tmp_path / "a.nii", np.zeros((6, 5, 4, 2, 3), np.uint8))
    with pytest.raises(CaseError, match=r"has shape \(6, 5, 4, 2, 3\): 3-D, or 4-D"):
        open_source(path, "image")


@pytest.mark.parametrize("dtype", ["complex64", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_real_numbers_are_refused(tmp_path, dtype):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), dtype), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(CaseError, match="holds elements of type .* real numbers are expected"):
        open_source(tmp_path / "a.nii", "image")


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 1), (0, 0)])
def test_the_sform_goes_before_the_qform_as_in_nibabel(tmp_path, codes):
    image = nib.Nifti1Image(VOXELS, None)
    image.set_qform(affine(degrees=25), code=codes[0])
    image.set_sform(affine(degrees=-40, signs=(-1, 1, 1)), code=codes[1])
    image.header["pixdim"][1:4] = (0.7, 0.9, 2.5)
    nib.save(image, tmp_path / "a.nii")
    grid = open_source(tmp_path / "a.nii", "image").grid
    np.testing.assert_array_equal(grid.matrix[:, [2, 1, 0, 3]], nib.load(tmp_path / "a.nii").affine)


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("budget", ["whole", "slabs"])
def test_real_files_are_read_as_nibabel_reads_them(real_data, monkeypatch, folder, budget):
    if budget == "slabs":
        monkeypatch.setattr(inflated_voxels, "WHOLE_BYTES", 0)
        monkeypatch.setattr(inflated_voxels, "SLAB_BYTES", 20_000)
    random = np.random.default_rng(2)
    paths = sorted((real_data("hippocampus") / folder).glob("*.nii.gz"))[::10]
    assert paths
    for path in paths:
        image = nib.load(path)
        expected = np.asarray(image.dataobj).T
        source = open_source(path, "image")
        np.testing.assert_array_equal(source.grid.matrix[:, [2, 1, 0, 3]], image.affine)
        for first in random.permutation(expected.shape[0] - 4)[:8]:
            window = Window((int(first), 2, 3), (4, 20, 17))
            part = source.read(window)
            np.testing.assert_array_equal(part.array[0], expected[window.slices])
            assert part.array.dtype == source.dtype
        np.testing.assert_array_equal(whole(source).array[0], expected)


def test_big_endian_and_float64_become_what_stores_hold(tmp_path):
    image = nib.Nifti1Image(VOXELS.astype(">i2"), np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(
        whole(open_source(tmp_path / "a.nii", "image")).array[0], VOXELS.T
    )
    nib.save(nib.Nifti1Image(VOXELS / 3, np.eye(4)), tmp_path / "b.nii")
    assert whole(open_source(tmp_path / "b.nii", "image")).array.dtype == np.float32


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_other_units_become_millimetres(tmp_path, unit, factor):
    image = nib.Nifti1Image(VOXELS, np.diag([1, 2, 3, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    grid = open_source(tmp_path / "a.nii", "image").grid
    np.testing.assert_allclose(grid.spacing, np.multiply((3, 2, 1), factor))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("matrix", AFFINES.values(), ids=AFFINES)
def test_a_written_volume_comes_back_and_others_agree(tmp_path, matrix, suffix):
    exact = matrix.astype(np.float32).astype(np.float64)  # what NIfTI can keep
    grid = Grid(VOXELS.T.shape, as_affine(exact[:, [2, 1, 0, 3]]), "millimeter")
    path = tmp_path / f"a{suffix}"
    write_nifti(path, VOXELS.T, grid)
    source = open_source(path, "image")
    assert source.grid == grid
    np.testing.assert_array_equal(whole(source).array[0], VOXELS.T)
    np.testing.assert_array_equal(nib.load(path).affine, exact)
    image = SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), VOXELS.T)
    np.testing.assert_allclose(image.GetOrigin(), exact[:3, 3] * (-1, -1, 1), atol=1e-4)


def test_channels_and_booleans_can_be_written_and_twice_gives_equal_bytes(tmp_path):
    grid = Grid((4, 5, 6), as_affine(np.eye(4)[:, [2, 1, 0, 3]]), "millimeter")
    array = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", array, grid)
    write_nifti(tmp_path / "b.nii.gz", array, grid)
    np.testing.assert_array_equal(whole(open_source(tmp_path / "a.nii.gz", "image")).array, array)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    write_nifti(tmp_path / "c.nii", array[0] > 0, grid)
    assert whole(open_source(tmp_path / "c.nii", "mask")).array.dtype == np.uint8


def truncated_gzip(path):
    path.write_bytes(path.read_bytes()[:-200])


def garbage(path):
    path.write_bytes(b"no image at all" * 100)


def empty(path):
    path.write_bytes(b"")


def truncated_inside(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:500]))


@pytest.mark.parametrize("damage", [truncated_gzip, garbage, empty, truncated_inside])
def test_a_damaged_file_is_the_cases_fault(tmp_path, write_scan, damage):
    path = write_scan(tmp_path / "a.nii.gz", VOXELS.astype(np.float32) / 7)
    damage(path)
    with pytest.raises(CaseError, match=r"a.nii.gz cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


def test_a_truncated_plain_file_is_the_cases_fault(tmp_path, write_scan):
    path = write_scan(tmp_path / "a.nii", VOXELS)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CaseError, match=r"a.nii cannot be read: it is truncated or damaged"):
        whole(open_source(path, "image"))


def test_a_header_that_places_voxels_nowhere_is_refused(tmp_path, write_scan):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header["srow_z"] = 0
    image.header["vox_offset"] = 352
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + bytes(4) + VOXELS.tobytes("F"))
    with pytest.raises(CaseError, match="an affine that maps voxels to no place"):
        open_source(path, "image")


def test_two_axes_are_too_few(tmp_path, write_scan):
    path = write_scan(tmp_path / "a.nii", VOXELS[:, :, 0])
    with pytest.raises(CaseError, match=r"has shape \(6, 5\): 3-D, or 4-D with channels last"):
        open_source(path, "image")
