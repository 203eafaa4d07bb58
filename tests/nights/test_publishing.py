"""`segflow publish` makes a version of the masks that are there; nights take it as their own."""

from __future__ import annotations

import pytest

from pipeline.errors import NothingUsableError
from pipeline.io.files import read_jsonl
from pipeline.run import run_stage
from pipeline.run.night import run_night
from tests.flows.discs import CASES
from tests.nights.conftest import Dataset


def test_masks_that_are_there_are_published_and_the_next_night_finds_nothing_new(
    dataset: Dataset,
) -> None:
    run_stage("predict", dataset.settings)
    steps: list[str] = []
    published = run_night(
        dataset.settings, ended=lambda step, line: steps.append(step), first="compare"
    )
    assert steps == ["compare", "score", "publish", "report"]
    assert published.sentence().startswith(f"published v0001: {CASES} added; mean Dice 0.")
    before = dataset.masks()
    assert len(before) == CASES

    night = run_night(dataset.settings)
    assert night.sentence() == f"nothing new: v0001 stands, {CASES} masks"
    assert dataset.masks() == before
    assert [row["state"] for row in read_jsonl(dataset.run.nights)] == ["published", "nothing new"]


def test_publishing_takes_nothing_in_and_predicts_nothing(dataset: Dataset) -> None:
    run_stage("predict", dataset.settings)
    dataset.draw("new", 100)
    night = run_night(dataset.settings, first="compare")
    assert night.new == () and "new" not in dataset.masks()


def test_without_a_mask_there_is_nothing_to_publish(dataset: Dataset) -> None:
    with pytest.raises(NothingUsableError, match="holds no mask to publish: run `segflow predict`"):
        run_night(dataset.settings, first="compare")
    assert not (dataset.run.published / "current").exists()
