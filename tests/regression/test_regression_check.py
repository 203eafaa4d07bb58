"""`segflow check` on masks of numbers: what they hold, and what a person should look at."""

import json

import numpy as np
import rasterio

from flows.findings import dataset_facts
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, check
from tests.regression.heights import make_heights, truth_of

SERIAL = ExecuteSettings(on="serial")


def look(data, folder):
    return check(data, IngestSettings(), SERIAL, manifest=folder / "manifest.jsonl")


def told(found):
    return {(f.case, f.code) for f in found.findings}


def change(root, number, edit):
    """Edit the heights of a case in place."""
    with rasterio.open(root / "heights" / f"tile_{number}.tif", "r+") as file:
        heights = file.read(1)
        edit(heights)
        file.write(heights, 1)


def fill(value, *place):
    def edit(heights):
        heights[place or ...] = value

    return edit


def test_a_row_says_what_numbers_a_case_holds_and_the_dataset_sums_them_up(tmp_path, write_scene):
    data = make_heights(tmp_path / "data", write_scene, cases=3)
    found = look(data, tmp_path)
    assert not found.findings
    value = found.to_json()
    every, valid = [], 0
    for number, row in enumerate(value["cases"]):
        truth = truth_of(number)
        known = truth[np.isfinite(truth)].astype(np.float64)
        seen = round(row["valid_share"] * truth.size)
        every.append(known)
        valid += seen
        assert row["target"] == {
            "count": len(known),
            "share": float(f"{len(known) / seen:.9g}"),
            "mean": float(f"{known.mean():.9g}"),
            "std": float(f"{known.std():.9g}"),
            "min": float(f"{known.min():.9g}"),
            "max": float(f"{known.max():.9g}"),
        }
        assert "class_voxels" not in row
    whole, target = np.concatenate(every), value["dataset"]["target"]
    assert (target["name"], target["count"]) == ("height", len(whole))
    assert target["std"] == float(f"{whole.std():.9g}") and target["min"] == float(
        f"{whole.min():.9g}"
    )
    assert target["share"] == float(f"{len(whole) / valid:.9g}")
    assert value["dataset"]["classes"] == {}
    assert json.dumps(value, allow_nan=False)
    fact = dataset_facts(value)["target height"]
    assert fact.startswith(f"{whole.mean():.4g} ± {whole.std():.3g}, from {whole.min():.4g} to ")


def test_what_is_odd_about_numbers_is_told(tmp_path, write_scene):
    root = tmp_path / "data"
    data = make_heights(root, write_scene, cases=13)
    change(root, 1, fill(np.inf, slice(2), slice(50, 53)))
    change(root, 2, fill(41.5))
    change(root, 3, fill(-32768, 50, slice(20, 30)))
    change(root, 4, fill(np.nan))
    with rasterio.open(root / "heights" / "tile_5.tif", "r+") as file:
        file.write(file.read() * 1000)
    found = look(data, tmp_path)
    assert told(found) == {
        ("tile_1", "infinite-truth"),
        ("tile_2", "constant-truth"),
        (None, "likely-nodata"),
        ("tile_4", "empty-mask"),
        ("tile_5", "truth-outlier"),
    }
    said = {f.code: f"{f.reason} {f.remedy}" for f in found.findings}
    assert "is infinite in 6 voxels, which are taken for not measured" in said["infinite-truth"]
    assert (
        "-32768 is the least or the largest number in the masks of 1 of 13"
        in (said["likely-nodata"])
    )
    assert "data.ignore_values to [-32768]" in said["likely-nodata"]
    assert "holds no number anywhere" in said["empty-mask"]


def test_an_ignored_mark_is_no_number_any_more(tmp_path, write_scene):
    root = tmp_path / "data"
    data = make_heights(root, write_scene, cases=2)
    change(root, 1, fill(-32768, 50, slice(20, 30)))
    ignoring = data.model_copy(update={"ignore_values": (-32768,)})
    assert told(look(data, tmp_path)) == {(None, "likely-nodata")}
    assert not look(ignoring, tmp_path).findings
    row = look(ignoring, tmp_path).to_json()["cases"][1]
    assert row["target"]["count"] == np.isfinite(truth_of(1)).sum() - 10


def test_the_largest_float_is_a_mark_and_its_remedy_works(tmp_path, write_scene):
    root = tmp_path / "data"
    data = make_heights(root, write_scene, cases=2)
    least = np.finfo(np.float32).min
    change(root, 1, fill(least, 50, slice(20, 30)))
    [finding] = look(data, tmp_path).findings
    assert finding.code == "likely-nodata"
    value = int(finding.remedy.partition("[")[2].partition("]")[0])
    assert not look(data.model_copy(update={"ignore_values": (value,)}), tmp_path).findings


def test_a_mask_of_several_bands_is_refused(tmp_path, write_scene):
    data = make_heights(tmp_path / "data", write_scene, cases=2)
    bands = np.ones((2, 96, 112), np.float32)
    write_scene(tmp_path / "data" / "heights" / "tile_1.tif", bands)
    [finding] = look(data, tmp_path).findings
    assert (finding.case, finding.level) == ("tile_1", "refused")
    assert "has 2 bands: a mask has one" in finding.reason
