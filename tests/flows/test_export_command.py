"""``segflow export``: files, exit codes and last lines."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from pipeline.promotion import serving_model
from tests.export.scans import labels_of, write_mask
from tests.flows.discs import Segflow, settings_of
from tests.trained import small_plan, write_model

SHAPE = (5, 6, 7)


def test_a_mask_is_exported(tmp_path: Path, segflow: Segflow) -> None:
    write_mask(tmp_path / "m" / "a.zarr", labels_of(SHAPE))
    ended = segflow("export", "m/a.zarr", "a.nii.gz", "--to", "nifti")
    assert (ended.code, ended.last) == (0, "complete: 2 files in .")
    assert nib.load("a.nii.gz").shape == SHAPE[::-1]


def test_files_and_refusals_are_told_to_machines(tmp_path: Path, segflow: Segflow) -> None:
    write_mask(tmp_path / "m" / "a.zarr", labels_of(SHAPE))
    write_mask(tmp_path / "m" / "b.zarr", np.zeros(SHAPE, np.float32), target="depth")
    (tmp_path / "m" / "a.zarr" / "zarr.json").write_text("{}")
    ended = segflow("export", "m", "out", "--to", "mha", "--json")
    told = json.loads(ended.out)
    assert ended.code == told["exit_code"] == 3
    assert told["files"] == ["out/b.mask.json", "out/b.mha"]
    assert [r["case"] for r in told["refused"]] == ["a"] and told["refused"][0]["remedy"]
    assert told["message"] == "complete, 1 mask refused, listed above; 2 files in out"


def test_nothing_exported_is_a_failure_with_its_reason(tmp_path: Path, segflow: Segflow) -> None:
    write_mask(tmp_path / "m" / "a.zarr", labels_of(SHAPE))
    ended = segflow("export", "m", "out", "--to", "dicomseg")
    assert ended.code == 1 and "Traceback" not in ended.out + ended.err
    assert ended.last.startswith("failed: no mask could be exported; a: its DICOM series is")
    assert "--source" in ended.last


def test_a_mistyped_store_is_wrong_usage(segflow: Segflow) -> None:
    ended = segflow("export", "m/a.zarr", "a.nii.gz", "--to", "nifti")
    assert ended.code == 2
    assert ended.last.startswith("wrong settings: m/a.zarr does not exist: give a <case>.zarr")


def test_a_format_that_fits_no_mask_is_refused_in_one_row(tmp_path: Path, segflow: Segflow) -> None:
    for case in "abcd":
        write_mask(tmp_path / "m" / f"{case}.zarr", np.zeros(SHAPE, np.float32), target="depth")
    write_mask(tmp_path / "m" / "e.zarr", labels_of(SHAPE))
    ended = segflow("export", "m", "out", "--to", "csv")
    assert ended.code == 3
    assert ended.out.count("4 cases (a, b, c …)") == 1


def test_an_unknown_format_is_wrong_usage(segflow: Segflow) -> None:
    ended = segflow("export", "a.zarr", "a.doc", "--to", "word")
    assert ended.code == 2 and "'word' is not one of" in ended.last


def test_a_run_gives_the_masks_of_the_model_that_serves(tmp_path: Path, segflow: Segflow) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings_of(tmp_path, tmp_path / "run")))
    ended = segflow("export", path, "out", "--to", "nrrd")
    assert ended.code == 1 and "there is no usable model" in ended.last
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    model = write_model(tmp_path / "run" / "checkpoints", small_plan(3))
    trained = json.loads(model.with_suffix(".json").read_text())["model_id"]
    write_mask(tmp_path / "run" / "predictions" / trained / "a.zarr", labels_of(SHAPE))
    assert segflow("export", path, "out", "--to", "nrrd").code == 0
    assert [p.name for p in Path("out").iterdir()] == ["a.seg.nrrd"]
    assert not serving_model(tmp_path / "run" / "promoted").exists()
