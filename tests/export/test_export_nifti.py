"""NIfTI as nibabel and SimpleITK read it: where the source is, to the last digit."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from pipeline.errors import NothingUsableError
from pipeline.export import ExportSettings, export
from pipeline.io.readers.medical import nifti as reader
from pipeline.space import voxel_grid
from tests.conftest import OBLIQUE
from tests.export.scans import (
    TURNED,
    exported,
    grid_of,
    labels_of,
    scan_grid,
    some_points,
    write_mask,
)
from tests.export.scenes import export_of, scene_grid

SHAPE = (7, 11, 9)
ROTATED = np.eye(4)
ROTATED[:3, :3] = TURNED * (0.6, 1.1, 3.3)
ROTATED[:3, 3] = 10.1, -20.2, 30.3
SHIFTED = ROTATED.copy()
SHIFTED[:3, 3] += 5.5, 0.0, -1.25


def write_source(path, kind=nib.Nifti1Image, sform=None, qform=None, endian="<", unit="mm"):
    """A scan with the given places and codes; ``None``: code 0."""
    voxels = np.zeros(SHAPE[::-1], np.int16)
    image = kind(voxels, None, kind.header_class(endianness=endian))
    image.header.set_xyzt_units(unit)
    for name, value in (("sform", sform), ("qform", qform)):
        place, code = value or (None, 0)
        getattr(image.header, f"set_{name}")(place, code)
    image.header["descrip"] = b"DOE^JANE"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def mask_of(source, path):
    """A mask store on the grid of a scan."""
    grid = reader.open_source(source, "image").grid
    told = [{"path": f"scans/{source.name}", "role": "image", "sha256": "0" * 64}]
    return write_mask(path, labels_of(SHAPE), grid, sources=told)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_have_the_values_and_places_of_the_mask(tmp_path, suffix):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    image = SimpleITK.ReadImage(exported(mask, tmp_path / f"a{suffix}", "nifti"))
    labels = labels_of(SHAPE)
    for z, y, x in some_points(SHAPE).tolist():
        assert image.GetPixel(x, y, z) == (0 if labels[z, y, x] == 255 else labels[z, y, x])
        place = np.array(image.TransformIndexToPhysicalPoint((x, y, z))) * (-1, -1, 1)
        np.testing.assert_allclose(grid_of(mask).index_to_world((z, y, x)), place, atol=1e-5)
    voxels = np.asarray(nib.load(tmp_path / f"a{suffix}").dataobj)
    np.testing.assert_array_equal(voxels.T, np.where(labels == 255, 0, labels))


SOURCES = {
    "both": {"sform": (ROTATED, 1), "qform": (ROTATED, 1)},
    "aligned": {"sform": (SHIFTED, 4), "qform": (ROTATED, 1)},
    "sform": {"sform": (OBLIQUE, 2)},
    "qform": {"qform": (ROTATED, 3)},
    "neither": {},
    "big-endian": {"sform": (ROTATED, 1), "qform": (ROTATED, 1), "endian": ">"},
    "nifti-2": {"sform": (ROTATED / 3, 1), "kind": nib.Nifti2Image},
    "metres": {"sform": (np.diag([0.001, 0.001, 0.002, 1]), 1), "unit": "meter"},
}


@pytest.mark.parametrize("name", SOURCES)
def test_with_its_source_a_mask_has_the_sources_qform_and_sform(tmp_path, name):
    source = write_source(tmp_path / "data" / "scans" / "a.nii.gz", **SOURCES[name])
    mask = mask_of(source, tmp_path / "a.zarr")
    found = nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti", source=tmp_path / "data"))
    expected = nib.load(source)
    assert type(found.header) is type(expected.header) and found.shape == expected.shape
    np.testing.assert_array_equal(found.affine, expected.affine)
    for field in ("sform_code", "qform_code"):
        assert found.header[field] == expected.header[field]
    np.testing.assert_array_equal(found.header.get_zooms(), expected.header.get_zooms())
    assert found.header.get_xyzt_units() == expected.header.get_xyzt_units()
    assert (found.header.get_qform(coded=True)[0] is None) == (expected.header["qform_code"] == 0)
    np.testing.assert_array_equal(found.header.get_qform(), expected.header.get_qform())


def test_texts_of_a_sources_header_do_not_follow_its_mask(tmp_path):
    source = write_source(tmp_path / "scans" / "a.nii.gz", sform=(ROTATED, 1))
    mask = mask_of(source, tmp_path / "a.zarr")
    out = exported(mask, tmp_path / "a.nii.gz", "nifti", source=tmp_path)
    assert b"DOE" not in gzip.decompress(out.read_bytes())


@pytest.mark.parametrize("name", ["both", "sform", "qform", "nifti-2"])
def test_without_its_source_the_affine_is_still_the_sources(tmp_path, name):
    source = write_source(tmp_path / "a.nii.gz", **SOURCES[name])
    found = nib.load(exported(mask_of(source, tmp_path / "a.zarr"), tmp_path / "m.nii.gz", "nifti"))
    np.testing.assert_array_equal(found.affine, nib.load(source).affine.astype(np.float32))
    assert found.header["sform_code"] == 1


def test_a_sheared_place_is_told_by_the_sform_alone(tmp_path):
    grid = scan_grid(SHAPE, OBLIQUE)
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), grid)
    header = nib.load(exported(mask, tmp_path / "a.nii", "nifti")).header
    assert (header["sform_code"], header["qform_code"]) == (1, 0)


def test_a_source_on_another_grid_is_refused(tmp_path):
    source = write_source(tmp_path / "b.nii", sform=(SHIFTED, 1))
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), scan_grid(SHAPE, ROTATED))
    with pytest.raises(NothingUsableError, match=r"b\.nii is not on the grid of the mask: its"):
        exported(mask, tmp_path / "a.nii", "nifti", source=source)
    other = write_mask(tmp_path / "o.zarr", labels_of((6, 11, 9)), scan_grid((6, 11, 9), SHIFTED))
    with pytest.raises(NothingUsableError, match=r"shape \(7, 11, 9\) instead of \(6, 11, 9\)"):
        exported(other, tmp_path / "o.nii", "nifti", source=source)


def test_a_damaged_source_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "b.nii.gz").write_bytes(b"\x1f\x8b no header")
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    with pytest.raises(NothingUsableError, match=r"source b\.nii\.gz cannot be read .* without"):
        exported(mask, tmp_path / "a.nii", "nifti", source=tmp_path / "b.nii.gz")


def test_a_path_in_a_store_leads_to_no_file_outside_the_source(tmp_path):
    write_source(tmp_path / "secret.nii", sform=(SHIFTED, 4))
    (tmp_path / "data").mkdir()
    told = [{"path": "../secret.nii", "role": "image", "sha256": ""}]
    grid = scan_grid(SHAPE, SHIFTED)
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), grid, sources=told)
    out = exported(mask, tmp_path / "a.nii", "nifti", source=tmp_path / "data")
    assert nib.load(out).header["sform_code"] == 1


def test_voxels_without_data_are_background_unless_they_are_to_be_kept(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    plain = np.asarray(nib.load(exported(mask, tmp_path / "a.nii", "nifti")).dataobj)
    kept = exported(mask, tmp_path / "k.nii", "nifti", nodata="keep")
    assert plain.max() == 2 and np.asarray(nib.load(kept).dataobj).max() == 255


def test_where_no_class_is_background_voxels_without_data_are_kept(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE), background=False)
    assert np.asarray(nib.load(exported(mask, tmp_path / "a.nii", "nifti")).dataobj).max() == 255
    assert json.loads((tmp_path / "a.mask.json").read_text())["nodata"] == 255


def test_many_classes_are_written_in_sixteen_bits(tmp_path):
    names = tuple(f"class {n}" for n in range(300))
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 300
    mask = write_mask(tmp_path / "a.zarr", labels, names=names)
    found = nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti"))
    assert found.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, labels)


def test_numbers_are_written_as_float32_with_nan(tmp_path):
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    values[0, 0] = np.nan
    mask = write_mask(tmp_path / "a.zarr", values, target="depth")
    found = nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti"))
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, values)
    assert json.loads((tmp_path / "a.mask.json").read_text())["target"] == "depth"


def test_the_sidecar_names_labels_and_what_made_them(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    exported(mask, tmp_path / "a.nii.gz", "nifti")
    told = json.loads((tmp_path / "a.mask.json").read_text())
    assert told["labels"] == {"background": 0, "liver": 1, "<script>alert(1)</script>": 2}
    assert told["nodata"] is None and told["made_by"]["model"]["id"] == "unet-0123456789"


def test_the_same_mask_gives_the_same_bytes(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of(SHAPE))
    files = [exported(mask, tmp_path / n, "nifti") for n in ("a.nii.gz", "b.nii.gz")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_mask_of_several_slabs_is_written_in_their_order(tmp_path):
    labels = labels_of((130, 5, 4))
    mask = write_mask(tmp_path / "a.zarr", labels)
    assert len(list(export_of(mask, tmp_path / "a").slabs())) == 3
    found = nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti"))
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, np.where(labels == 255, 0, labels))


def test_an_axis_too_long_for_nifti_1_makes_a_nifti_2(tmp_path):
    shape = (1, 40_000)
    mask = write_mask(tmp_path / "a.zarr", np.ones(shape, np.uint8), voxel_grid(shape))
    found = nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti"))
    assert isinstance(found, nib.Nifti2Image) and found.shape == (40_000, 1, 1)


def test_a_plain_picture_has_voxel_sizes_and_no_place(tmp_path):
    labels = labels_of((6, 8))
    mask = write_mask(tmp_path / "a.zarr", labels, voxel_grid((6, 8)))
    found = nib.load(exported(mask, tmp_path / "a.nii", "nifti"))
    assert found.shape == (8, 6, 1) and found.header["sform_code"] == 0
    np.testing.assert_array_equal(
        np.asarray(found.dataobj)[..., 0].T, np.where(labels == 255, 0, labels)
    )


def test_a_scene_is_no_nifti(tmp_path):
    mask = write_mask(tmp_path / "a.zarr", labels_of((6, 8)), scene_grid((6, 8)))
    with pytest.raises(NothingUsableError, match="it is a scene .* Export it as cog"):
        export(mask, tmp_path / "a.nii", ExportSettings("nifti"))


def test_a_real_scans_mask_lies_where_the_scan_does(tmp_path, real_data):
    root = real_data("hippocampus")
    scan = sorted((root / "imagesTr").glob("*.nii.gz"))[0]
    grid = reader.open_source(scan, "image").grid
    told = [{"path": f"imagesTr/{scan.name}", "role": "image", "sha256": ""}]
    mask = write_mask(tmp_path / "a.zarr", labels_of(grid.shape), grid, sources=told)
    found, source = (
        nib.load(exported(mask, tmp_path / "a.nii.gz", "nifti", source=root)),
        nib.load(scan),
    )
    np.testing.assert_array_equal(found.affine, source.affine)
    np.testing.assert_array_equal(found.header.get_qform(), source.header.get_qform())
    one, other = SimpleITK.ReadImage(tmp_path / "a.nii.gz"), SimpleITK.ReadImage(scan)
    assert one.GetOrigin() == other.GetOrigin() and one.GetDirection() == other.GetDirection()
    assert one.GetSpacing() == other.GetSpacing() and one.GetSize() == other.GetSize()
