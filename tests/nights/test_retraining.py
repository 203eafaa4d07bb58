"""A new model serves where it is not worse on the same held-out cases; every decision is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import ModelError
from pipeline.io.files import read_json, read_jsonl, write_json
from pipeline.model_file import ModelCard, read_card
from pipeline.promotion import PromoteSettings, decide, promote, serving_card
from pipeline.run.night import run_night
from pipeline.run.retraining import judge, retrain
from tests.flows.discs import CASES
from tests.nights.conftest import Dataset
from tests.trained import small_plan, write_model


def scores(**dice: float) -> dict[str, Any]:
    """scores.json of held-out cases of one class."""
    rows = [{"case": c, "split": "test", "class": "liver", "dice": d} for c, d in dice.items()]
    return {"task": "segmentation", "split": "test", "cases": rows}


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, ModelCard]:
    """Two models of one plan: one that serves, one that is new."""
    plan = small_plan(2)
    folder = tmp_path_factory.mktemp("models")
    made = (read_card(write_model(folder / name, plan, seed)) for seed, name in enumerate("ab"))
    return tuple(made)


def decided(
    cards: tuple[ModelCard, ModelCard], new: float, old: float, **settings: Any
) -> tuple[bool, str]:
    """What is decided of a new score and an old one."""
    made = decide(PromoteSettings(**settings), cards[1], cards[0], scores(a=new), scores(a=old))
    return made.promoted, made.reason


def test_a_new_model_may_lose_the_margin_and_no_more(cards: tuple[ModelCard, ModelCard]) -> None:
    assert decided(cards, 0.9, 0.8) == (
        True,
        "held-out score 0.9000 against 0.8000 on 1 case: it is not more than 0.005 below",
    )
    assert decided(cards, 0.796, 0.8)[0]
    assert decided(cards, 0.794, 0.8) == (
        False,
        "held-out score 0.7940 against 0.8000 on 1 case: it is more than 0.005 below",
    )
    assert decided(cards, 0.794, 0.8, margin=0.01)[0]


def test_models_are_compared_on_the_cases_that_both_have_a_figure_for(
    cards: tuple[ModelCard, ModelCard],
) -> None:
    made = decide(
        PromoteSettings(), cards[1], cards[0], scores(a=0.7, hard=0.1), scores(a=0.6, easy=1.0)
    )
    assert (made.promoted, made.candidate_score, made.serving_score) == (True, 0.7, 0.6)
    assert made.cases == 1


def test_a_model_that_nothing_can_judge_is_promoted_only_when_asked_to(
    cards: tuple[ModelCard, ModelCard],
) -> None:
    made = decide(PromoteSettings(), cards[1], cards[0], scores(a=0.9), None)
    assert (made.promoted, made.candidate_score) == (False, None)
    assert made.reason == (
        "no held-out case tells them apart; set promote.unscored to promote it unseen"
    )
    assert decide(PromoteSettings(unscored=True), cards[1], cards[0], None, None).promoted


def test_the_first_model_serves_and_the_same_one_is_not_promoted_twice(
    cards: tuple[ModelCard, ModelCard],
) -> None:
    assert decide(PromoteSettings(), cards[0], None, None, None).promoted
    same = decide(PromoteSettings(), cards[0], cards[0], None, None)
    assert not same.promoted
    assert same.sentence == (
        f"model {cards[0].model_id} goes on serving: it is the model that serves already: there "
        "was nothing new to learn"
    )


def test_other_weights_than_those_judged_are_not_promoted(
    cards: tuple[ModelCard, ModelCard], tmp_path: Any
) -> None:
    other = write_model(tmp_path / "c", small_plan(2), 7)
    made = decide(PromoteSettings(), cards[0], None, None, None)
    with pytest.raises(ModelError, match="by now, judged was unet-"):
        promote(other, tmp_path / "promoted", made)
    assert serving_card(tmp_path / "promoted") is None


def test_retraining_on_more_cases_promotes_by_held_out_score(
    make_dataset: Callable[..., Dataset],
) -> None:
    dataset = make_dataset(promote={"margin": 0.99})
    run_night(dataset.settings)
    first = serving_card(dataset.run.promoted)
    for number in range(4):
        dataset.draw(f"more_{number}", 200 + number, labelled=True)
    steps: list[str] = []
    made = retrain(dataset.settings, ended=lambda step, line: steps.append(step))
    assert steps == ["ingest", "plan", "patch", "train", "judge"]
    assert made.promoted and made.serving == first.model_id
    for side, score in (("candidate", made.candidate_score), ("serving", made.serving_score)):
        assert read_json(dataset.run.retraining / side / "scores.json")["mean"]["dice"] == score
    assert [row["promoted"] for row in read_jsonl(dataset.run.promoted / "history.jsonl")] == [
        True,
        True,
    ]
    night = run_night(dataset.settings)
    assert night.model == made.candidate != first.model_id
    assert len(night.publication.version.changed) > 0
    # The former model's masks are gone, and the version that was made of them is whole.
    assert not (dataset.run.predictions / first.model_id).exists()
    assert dataset.masks("v0001").keys() == {f"disc_{n}" for n in range(CASES)}
    assert all("0/mask/zarr.json" in files for files in dataset.masks("v0001").values())

    again = retrain(dataset.settings)
    assert not again.promoted and "there was nothing new to learn" in again.reason


def test_a_worse_model_does_not_serve_unless_told_to(dataset: Dataset) -> None:
    night = run_night(dataset.settings)
    shutil.copytree(dataset.run.checkpoints, dataset.folder / "good")
    plan = read_card(dataset.run.trained).plan
    worse = write_model(dataset.folder / "worse", plan, seed=3)
    for suffix in (".pt", ".json"):
        shutil.copyfile(worse.with_suffix(suffix), dataset.run.trained.with_suffix(suffix))
    trained = dataset.run.checkpoints / "train.json"
    write_json(trained, read_json(trained) | {"model_id": read_card(worse).model_id})
    bad = dataset.settings.model_copy(
        update={"promote": PromoteSettings(margin=0.0)},
    )
    made = judge(bad)
    assert made.serving_score is not None and made.candidate_score is not None
    assert made.promoted == (made.candidate_score >= made.serving_score)
    if made.promoted:  # chance made the random network the better: turn the two round
        for suffix in (".pt", ".json"):
            good = dataset.folder / "good" / f"best{suffix}"
            shutil.copyfile(good, dataset.run.trained.with_suffix(suffix))
        shutil.copyfile(dataset.folder / "good" / "train.json", trained)
        made = judge(bad)
        assert not made.promoted
    serving = serving_card(dataset.run.promoted).model_id
    assert serving != made.candidate
    assert f"goes on serving, not {made.candidate}" in made.sentence
    assert night.model in (serving, made.candidate)

    asked = judge(bad, anyway=True)
    assert asked.promoted and asked.reason.startswith("as asked, though held-out score")
    assert serving_card(dataset.run.promoted).model_id == made.candidate
