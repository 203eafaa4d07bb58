"""Exporting: one mask or many, whole files or none, and a reason for each that is refused."""

import hashlib
import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import SimpleITK

from flows.options import ExportTo
from pipeline.errors import NothingUsableError, SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.export import FORMATS, ExportSettings, export, plan_export
from pipeline.export.formats import FormatName
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.ngff import LabelClass
from tests.conftest import tree
from tests.export.scans import exported, labels_of, scan_grid, write_mask

SHAPE = (5, 6, 7)


def masks(folder, count=3):
    return [write_mask(folder / f"c{n}.zarr", labels_of(SHAPE)) for n in range(count)]


def damage(mask):
    """Flip bits in the middle of a file of voxels."""
    path = next(p for p in sorted((mask / "0" / "mask" / "c").rglob("*")) if p.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def test_formats_of_the_command_are_those_there_are():
    assert set(get_args(ExportTo)) == set(get_args(FormatName)) == set(FORMATS)


def test_a_folder_of_masks_becomes_a_folder_of_files(tmp_path):
    masks(tmp_path / "m")
    done = export(tmp_path / "m", tmp_path / "out", ExportSettings("nrrd"))
    assert [p.name for p in done.files] == [f"c{n}.seg.nrrd" for n in range(3)]
    assert done.exit_code == 0 and set(tree(tmp_path / "out")) == {p.name for p in done.files}


def test_workers_write_the_same_bytes_as_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.export.exporting.FEW_VOXELS", 0)
    masks(tmp_path / "m")
    for place, execute in (("a", "serial"), ("b", "local")):
        settings = ExecuteSettings(on=execute, workers=2)
        export(tmp_path / "m", tmp_path / place, ExportSettings("nifti"), settings)
    assert tree(tmp_path / "a") == tree(tmp_path / "b") != {}


def test_a_mask_that_cannot_be_exported_does_not_stop_the_others(tmp_path):
    masks(tmp_path / "m")
    (tmp_path / "m" / "c1.zarr" / "zarr.json").write_text("{")
    told = []
    done = export(
        tmp_path / "m",
        tmp_path / "out",
        ExportSettings("mha"),
        progress=lambda *call: told.append(call),
    )
    assert [r.case for r in done.refused] == ["c1"] and done.exit_code == 3
    assert not list((tmp_path / "out").glob("*c1*"))
    assert any(note.startswith("c1: refused, ") for _, _, _, note in told)


def test_a_store_still_being_written_is_no_mask(tmp_path):
    spec = MaskSpec(scan_grid(SHAPE), (LabelClass(0, "background", True),), "key", {})
    MaskWriter.create(tmp_path / "m" / "a.zarr", spec)
    with pytest.raises(SettingsError, match=r"m is no mask store, and no folder of them: give a"):
        export(tmp_path / "m", tmp_path / "out", ExportSettings("nifti"))
    with pytest.raises(NothingUsableError, match=r"status 'writing': expected a complete mask"):
        partial = tmp_path / "m" / ".a.zarr.partial"
        export(partial, tmp_path / "a.nii", ExportSettings("nifti"))


def test_a_store_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.zarr does not exist: give a <case>\.zarr"):
        export(tmp_path / "none.zarr", tmp_path / "a.nii", ExportSettings("nifti"))


def test_a_damaged_store_gives_no_file_and_leaves_the_one_before(tmp_path):
    mask = masks(tmp_path, 1)[0]
    before = exported(mask, tmp_path / "a.nii", "nifti").read_bytes()
    damage(mask)
    with pytest.raises(NothingUsableError, match=r"c0: its store is damaged: 0/mask/c/"):
        exported(mask, tmp_path / "a.nii", "nifti")
    assert (tmp_path / "a.nii").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_lost_file_of_a_store_is_not_taken_for_missing_data(tmp_path):
    mask = masks(tmp_path, 1)[0]
    next(p for p in (mask / "0" / "mask" / "c").rglob("*") if p.is_file()).unlink()
    with pytest.raises(NothingUsableError, match=r"its store is damaged: 0/mask.* Predict the"):
        exported(mask, tmp_path / "a.nii", "nifti")


def test_a_file_of_that_name_is_replaced(tmp_path):
    (tmp_path / "a.nrrd").write_text("old")
    path = exported(masks(tmp_path / "m", 1)[0], tmp_path / "a.nrrd", "nrrd")
    assert SimpleITK.ReadImage(path).GetSize() == SHAPE[::-1]


def test_what_a_mask_was_made_from_is_never_replaced(tmp_path):
    source = tmp_path / "scan.nii"
    source.write_bytes(b"the only copy")
    told = {"path": "scan.nii", "role": "image"}
    told["sha256"] = hashlib.sha256(source.read_bytes()).hexdigest()
    mask = write_mask(tmp_path / "scan.zarr", labels_of(SHAPE), sources=[told])
    with pytest.raises(NothingUsableError, match=r"scan\.nii is what the mask was made from"):
        exported(mask, source, "nifti")
    assert source.read_bytes() == b"the only copy"
    source.write_bytes(b"the only copy, corrected")
    with pytest.raises(NothingUsableError, match=r"scan\.nii is what the mask was made from"):
        exported(mask, source, "nifti", source=tmp_path)
    assert source.read_bytes() == b"the only copy, corrected"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NothingUsableError, match=r"file cannot be written to \(.*Choose another"):
        exported(masks(tmp_path / "m", 1)[0], tmp_path / "file" / "a.nii", "nifti")


def test_a_folder_takes_a_single_mask_under_its_cases_name(tmp_path):
    mask = masks(tmp_path / "m", 1)[0]
    (tmp_path / "out").mkdir()
    done = export(mask, tmp_path / "out", ExportSettings("nifti"))
    assert tmp_path / "out" / "c0.nii.gz" in done.files


def test_the_store_one_is_in_is_called_by_its_own_name(tmp_path, monkeypatch):
    mask = masks(tmp_path / "m", 1)[0]
    (tmp_path / "out").mkdir()
    for here, place in ((mask, "."), (mask / "0", "..")):
        monkeypatch.chdir(here)
        done = export(Path(place), tmp_path / "out", ExportSettings("nifti"))
        assert {p.name for p in done.files} == {"c0.nii.gz", "c0.mask.json"}


def test_names_that_do_not_fit_are_refused_before_anything_is_read(tmp_path):
    mask = masks(tmp_path / "m", 2)[0]
    with pytest.raises(SettingsError, match=r"a\.mha is no name for nifti .* with \.nii\.gz"):
        plan_export(mask, tmp_path / "a.mha", ExportSettings("nifti"))
    with pytest.raises(SettingsError, match=r"lies inside the store"):
        plan_export(mask, mask / "a.nii", ExportSettings("nifti"))
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"is a file, and .* holds 2 masks: name a folder"):
        plan_export(tmp_path / "m", tmp_path / "file", ExportSettings("nifti"))


def test_memory_does_not_grow_with_the_mask(tmp_path):
    peaks = []
    masks_of_two = [
        write_mask(tmp_path / f"{depth}.zarr", np.ones((depth, 96, 96), np.uint8))
        for depth in (128, 512)
    ]
    for mask in (masks_of_two[0], *masks_of_two):  # at first what is loaded once
        tracemalloc.start()
        exported(mask, tmp_path / "a.nii.gz", "nifti")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A slab is 64 planes, 0.6 MB; the margin is for what Python holds besides.
    assert peaks[2] < 1.5 * peaks[1]
