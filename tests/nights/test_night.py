"""A night does what has come, and nothing else; it tells the truth, and leaves no half version."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable

import pytest
from PIL import Image

from pipeline.errors import BusyError, ModelError, NothingUsableError
from pipeline.io.files import read_jsonl
from pipeline.publish import current_version
from pipeline.run.night import Night, run_night
from tests.flows.discs import CASES
from tests.nights.conftest import Dataset


def told(dataset: Dataset) -> tuple[Night, list[str]]:
    """A night, and the steps it took."""
    steps: list[str] = []
    night = run_night(dataset.settings, ended=lambda step, line: steps.append(step))
    return night, steps


def test_the_first_night_publishes_all_and_the_second_finds_nothing_new(dataset: Dataset) -> None:
    night, steps = told(dataset)
    assert steps == ["ingest", "predict", "compare", "score", "publish", "report"]
    assert night.sentence().startswith(f"published v0001: {CASES} added; mean Dice 0.")
    assert set(dataset.masks()) == {f"disc_{n}" for n in range(CASES)}
    scores = json.loads((dataset.run.published / "current" / "scores.json").read_text())
    assert scores["model_id"] == night.model
    before = dataset.masks()

    night, steps = told(dataset)
    assert steps == ["ingest", "predict", "compare"]
    assert night.sentence() == f"nothing new: v0001 stands, {CASES} masks"
    assert dataset.masks() == before
    assert [row["state"] for row in read_jsonl(dataset.run.nights)] == ["published", "nothing new"]


def test_a_night_does_exactly_what_came_changed_and_went(dataset: Dataset) -> None:
    told(dataset)
    before = dataset.masks()
    for number in range(3):
        dataset.draw(f"new_{number}", 100 + number)
    dataset.draw("torn", 99)
    dataset.tear("torn")
    dataset.draw("disc_1", 50, labelled=True)
    dataset.image("disc_2").unlink()
    (dataset.folder / "data" / "masks" / "disc_2.png").unlink()

    night, _ = told(dataset)
    assert night.new == ("new_0", "new_1", "new_2")
    assert (night.changed, night.vanished) == (("disc_1",), ("disc_2",))
    assert [(r.case, r.stage, r.since) for r in night.newly_refused] == [
        ("torn", "ingest", night.started)
    ]
    assert night.publication is not None
    version = night.publication.version
    assert (version.added, version.changed) == (night.new, night.changed)
    assert version.removed == {"disc_2": "its files are gone"}
    assert (
        "published v0002: 3 added, 1 changed, 1 removed; 1 case quarantined (1 since tonight: torn)"
        in (night.sentence())
    )
    after = dataset.masks()
    assert after.keys() == {f"disc_{n}" for n in range(CASES) if n != 2} | set(night.new)
    assert after["disc_1"] != before["disc_1"]
    assert {c: after[c] for c in after if c in before and c != "disc_1"} == {
        c: before[c] for c in before if c not in ("disc_1", "disc_2")
    }
    assert dataset.masks("v0001") == before  # what a consumer holds on to stays as it was

    night, steps = told(dataset)
    assert steps == ["ingest", "predict", "compare"]
    assert night.sentence().endswith("1 case quarantined")
    assert (len(night.refused), night.newly_refused) == (1, ())


def test_a_case_that_is_corrupt_tonight_is_withdrawn_with_its_reason(dataset: Dataset) -> None:
    told(dataset)
    dataset.tear("disc_3")
    night, _ = told(dataset)
    assert night.publication is not None
    assert night.publication.version.removed["disc_3"].startswith("quarantined: ")
    assert "disc_3" not in dataset.masks() and "disc_3" in dataset.masks("v0001")


def test_a_corrupt_file_alone_brings_a_report_and_no_version(dataset: Dataset) -> None:
    told(dataset)
    dataset.draw("torn", 99)
    dataset.tear("torn")
    night, steps = told(dataset)
    assert steps == ["ingest", "predict", "compare", "report"]
    assert night.sentence() == (
        f"nothing new: v0001 stands, {CASES} masks; 1 case quarantined (1 since tonight: torn)"
    )
    assert "torn" in dataset.run.report.read_text()


def test_new_truth_alone_brings_new_scores(dataset: Dataset) -> None:
    night, _ = told(dataset)
    held_out = next(r["case"] for r in night.scores["cases"] if r["split"] == "test")
    mask = dataset.folder / "data" / "masks" / f"{held_out}.png"
    Image.new("L", (64, 64), 0).save(mask)
    again, _ = told(dataset)
    assert again.publication.version.changed == (held_out,)
    assert again.scores != night.scores
    chunks = [name for name in dataset.masks()[held_out] if "/c/" in name]
    assert chunks
    for name in chunks:  # the voxels are the same, the provenance is not
        assert dataset.masks()[held_out][name] == dataset.masks("v0001")[held_out][name]


def test_a_dataset_without_held_out_truth_is_published_all_the_same(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(predict={"splits": ["unlabelled"]})
    with pytest.raises(NothingUsableError, match="no usable case of split unlabelled"):
        run_night(dataset.settings)
    assert read_jsonl(dataset.run.nights)[-1]["state"] == "failed"
    dataset.draw("new", 100)
    night, _ = told(dataset)
    assert night.sentence() == "published v0001: 1 added"
    assert set(dataset.masks()) == {"new"}
    assert not (dataset.run.published / "current" / "scores.json").exists()


def test_old_versions_are_removed_and_the_current_one_never(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(publish={"keep": 2})
    for number in range(4):
        dataset.draw(f"new_{number}", 100 + number)
        told(dataset)
    kept = sorted(path.name for path in dataset.run.published.iterdir())
    assert kept == ["current", "v0003", "v0004"]
    assert current_version(dataset.run.published).number == 4


@pytest.mark.parametrize("left", [".v0001.partial", "v0001"])
def test_what_a_killed_publication_leaves_is_mended(dataset: Dataset, left: str) -> None:
    told(dataset)
    whole = dataset.masks()
    published = dataset.run.published
    (published / "current").unlink()  # killed before the pointer was set
    if left != "v0001":
        (published / "v0001").rename(published / left)
        shutil.rmtree(published / left / "disc_0.zarr")
    night, _ = told(dataset)
    assert night.state == "published"
    assert dataset.masks() == whole
    assert not list(published.glob(".*"))


def test_masks_are_links_where_the_disk_allows(dataset: Dataset) -> None:
    night, _ = told(dataset)
    inner = "disc_0.zarr/zarr.json"
    source = dataset.run.predictions / night.model / inner
    assert source.samefile(dataset.run.published / "current" / inner)


def test_a_second_night_steps_aside(dataset: Dataset) -> None:
    dataset.run.root.mkdir(exist_ok=True)
    with (dataset.run.root / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another segflow is at work in .*run: wait for it"):
            run_night(dataset.settings)
    assert not dataset.run.nights.exists()


def test_a_night_without_a_model_says_how_to_get_one(dataset: Dataset) -> None:
    shutil.rmtree(dataset.run.checkpoints)
    with pytest.raises(ModelError, match="has no model that a night could predict with: train one"):
        run_night(dataset.settings)


def test_a_night_predicts_with_the_promoted_model_whatever_was_trained_since(
    dataset: Dataset,
) -> None:
    first, _ = told(dataset)
    for path in dataset.run.checkpoints.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataset.draw("new", 100)
    second, _ = told(dataset)
    assert second.model == first.model
    assert "new" in dataset.masks()


def test_drift_is_told_of_cases_unlike_those_of_the_training(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(drift={"enabled": True})
    told(dataset)
    Image.new("L", (64, 64), 7).save(dataset.image("blank"))
    night, _ = told(dataset)
    flag = next(flag for flag in night.drift if flag.case == "blank")
    row = read_jsonl(dataset.run.nights)[-1]
    assert flag.sentence in {told["sentence"] for told in row["drift"]}
