"""What `segflow check` prints, and when `segflow status` calls a product stale."""

from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console as Screen

from flows.console import Console
from flows.findings import print_findings, rows_of
from pipeline.ingest.checking import Finding
from tests.flows.discs import CASES, Segflow, draw_pair


def finding(case: str | None, reason: str = "it is odd.", level: str = "refused") -> Finding:
    return Finding(case, "odd", level, reason, "Look.")  # type: ignore[arg-type]


# Rows


def test_findings_that_say_the_same_stand_in_one_row() -> None:
    rows = rows_of([finding(c) for c in "abcd"])
    assert [row.who for row in rows] == ["4 cases (a, b, c …)"]


def test_the_worst_comes_first_then_what_is_most_frequent() -> None:
    rows = rows_of(
        [
            finding(None, "n.", "note"),
            finding("a", "w.", "warning"),
            finding("a", "one."),
            finding("b", "two."),
            finding("c", "two."),
        ]
    )
    assert [(row.level, row.reason) for row in rows] == [
        ("refused", "two."),
        ("refused", "one."),
        ("warning", "w."),
        ("note", "n."),
    ]
    assert rows[-1].who == "dataset"


def test_the_names_of_their_own_files_do_not_keep_cases_apart() -> None:
    (row,) = rows_of([finding(c, f"{c}.nii.gz does not exist.") for c in ("a", "b")])
    assert row.reason == "<case>.nii.gz does not exist."
    (row,) = rows_of([finding("a", "a.nii.gz does not exist.")])
    assert row.reason == "a.nii.gz does not exist."
    # A case id may be a number, and numbers stand for other things too.
    assert len(rows_of([finding(str(n), f"it has {n} of 1.5 axes.") for n in (1, 2)])) == 2


def test_a_terminal_gets_a_table() -> None:
    console = Console()
    file = StringIO()
    console.screen = Screen(file=file, force_terminal=True, width=100)
    print_findings([finding("a")], console)
    assert "What was found" in file.getvalue() and "┃" in file.getvalue()


# The command


def test_check_says_what_is_wrong_what_is_odd_and_what_there_is(
    segflow: Segflow, discs: Path
) -> None:
    data = discs.parent / "data"
    (data / "masks" / "disc_3.png").unlink()
    Image.new("L", (64, 64), 9).save(data / "images" / "disc_5.png")
    found = segflow("check", discs)
    lines = found.out.splitlines()
    assert "refused disc_3: disc_3.png has no mask in masks/." in found.out
    assert "warning disc_5: its image holds the value 9 everywhere." in found.out
    assert any(line.startswith("cases") and "7 of 8 usable" in line for line in lines)
    assert any(line.startswith("shape") and "64 × 64" in line for line in lines)
    assert any(line.startswith("class disc") and "in 7 of 7 cases" in line for line in lines)
    assert found.code == 3
    assert found.last == (
        "complete, 1 case of 8 would be quarantined, 1 case with warnings: see "
        f"{discs.parent}/run/check.json"
    )
    assert "\x1b" not in found.out


def test_warnings_alone_end_with_0(segflow: Segflow, discs: Path) -> None:
    Image.new("L", (64, 64), 9).save(discs.parent / "data" / "images" / "disc_5.png")
    found = segflow("check", discs)
    assert found.code == 0
    assert found.last.startswith("complete: 8 cases usable, 1 case with warnings; see ")


def test_a_sound_dataset_needs_no_words_of_findings(segflow: Segflow, discs: Path) -> None:
    found = segflow("check", discs)
    assert (found.code, found.last) == (
        0,
        f"complete: 8 cases usable; see {discs.parent}/run/check.json",
    )
    assert not any(word in found.out for word in ("refused", "warning", "note"))


def test_a_machine_gets_what_check_json_holds(segflow: Segflow, discs: Path) -> None:
    value = json.loads(segflow("check", discs, "--json").out)
    written = json.loads((discs.parent / "run" / "check.json").read_text())
    assert {key: value[key] for key in written} == written
    assert (value["exit_code"], value["counts"]["usable"]) == (0, CASES)
    assert value["dataset"]["classes"]["disc"]["cases"] == CASES


def test_an_empty_dataset_says_which_settings_to_look_at(segflow: Segflow, discs: Path) -> None:
    for kind in ("images", "masks"):
        shutil.rmtree(discs.parent / "data" / kind)
        (discs.parent / "data" / kind).mkdir()
    found = segflow("check", discs)
    assert found.code == 1
    assert "holds no case: check data.layout" in found.last


# Stale products


def stage(segflow: Segflow, discs: Path, name: str) -> dict[str, str]:
    stages = json.loads(segflow("status", discs, "--json").out)["stages"]
    return next(s for s in stages if s["stage"] == name)


def test_files_that_change_make_an_ingest_stale_until_it_is_run_again(
    segflow: Segflow, discs: Path
) -> None:
    segflow("ingest", discs)
    assert stage(segflow, discs, "ingest")["state"] == "done"
    data = discs.parent / "data"
    draw_pair(data, "disc_1", 99)
    draw_pair(data, "disc_new", 1)
    for kind in ("images", "masks"):
        (data / kind / "disc_2.png").unlink()
    found = stage(segflow, discs, "ingest")
    assert found == {
        "stage": "ingest",
        "state": "stale",
        "detail": "8 of 8 cases, 1 case changed, 1 case new, 1 case gone since: run segflow ingest",
    }
    assert segflow("status", discs).last == f"ingest is stale: segflow run {discs}"
    segflow("ingest", discs)
    found = stage(segflow, discs, "ingest")
    assert found["state"] == "done"
    assert "the files of 1 are gone, their stores are kept and not used" in found["detail"]


def test_settings_that_would_give_other_stores_make_an_ingest_stale(
    segflow: Segflow, discs: Path
) -> None:
    segflow("ingest", discs)
    text = discs.read_text().replace("layout: pairs", "layout: pairs\n  nodata: 0")
    discs.write_text(text)
    assert "8 cases changed since: run segflow ingest" in stage(segflow, discs, "ingest")["detail"]


def test_a_dataset_out_of_reach_does_not_keep_status_from_the_rest(
    segflow: Segflow, discs: Path
) -> None:
    segflow("ingest", discs)
    shutil.rmtree(discs.parent / "data")
    found = stage(segflow, discs, "ingest")
    assert found["state"] == "stale"
    assert "the dataset cannot be looked at" in found["detail"]


@pytest.fixture
def predicted(segflow: Segflow, discs: Path) -> Path:
    for name in ("ingest", "plan", "patch", "train", "predict"):
        assert segflow(name, discs).code == 0
    return discs


def test_masks_of_an_older_image_are_stale_until_predicted_again(
    segflow: Segflow, predicted: Path
) -> None:
    assert stage(segflow, predicted, "predict")["state"] == "done"
    run, data = predicted.parent / "run", predicted.parent / "data"
    rows = map(json.loads, (run / "manifest.jsonl").read_text().splitlines())
    case = next(row["id"] for row in rows if row["split"] == "test")
    path = data / "images" / f"{case}.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    segflow("ingest", predicted)
    found = stage(segflow, predicted, "predict")
    assert found["state"] == "stale"
    assert found["detail"].endswith("1 mask stale: run segflow predict")
    assert segflow("predict", predicted).code == 0
    assert stage(segflow, predicted, "predict")["state"] == "done"
