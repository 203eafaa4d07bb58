"""The flows: thin, typed, and as truthful as the stages they run."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import NothingUsableError, SettingsError
from pipeline.run import RunSettings, parse_settings
from tests.flows.discs import CASES, draw_pair, settings_of

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    """Settings of a run on eight good pairs."""
    for number in range(CASES):
        draw_pair(tmp_path / "data", f"disc_{number}", number)
    return parse_settings(settings_of(tmp_path / "data", tmp_path / "run"))


def last_artifact(key: str) -> str:
    """Text of an artifact."""
    from prefect.artifacts import Artifact

    found: Any = Artifact.get(key)
    return str(found.data)


def test_a_dataset_goes_through_all_stages(settings: RunSettings, tmp_path: Path) -> None:
    from flows.segment import segment

    (tmp_path / "data" / "masks" / "disc_3.png").unlink()
    state = segment(settings, return_state=True)
    assert state.is_completed()
    line = f"complete, 1 case quarantined: see {settings.dir.quarantine}"
    assert (state.message, state.result()) == (line, line)
    scores = json.loads(settings.dir.scores.read_text())
    text = last_artifact("segflow-discs")
    assert f"- masks: `{settings.dir.predictions}`" in text
    assert f"| mean | {scores['mean']['dice']:.4f} |" in text
    assert "disc_3.png has no mask in masks/." in text
    masks = list(settings.dir.predictions.glob("*/*.zarr"))
    assert len(masks) == CASES - 1


def test_stages_can_be_chosen(settings: RunSettings) -> None:
    from flows.segment import segment

    assert segment(settings, last="plan") == f"complete: 8 cases; plan {settings.dir.plan}"
    assert segment(settings, first="patch", last="patch").endswith("patches.zarr")
    assert not settings.dir.model.exists()


def test_stages_out_of_order_are_refused(settings: RunSettings) -> None:
    from flows.segment import segment

    with pytest.raises(SettingsError, match="stage plan comes before train: the order is ingest"):
        segment(settings, first="train", last="plan")


def test_a_failed_stage_fails_the_flow_with_its_own_error(
    settings: RunSettings, tmp_path: Path
) -> None:
    from flows.segment import segment

    for mask in (tmp_path / "data" / "masks").iterdir():
        mask.unlink()
    with pytest.raises(NothingUsableError, match="all 8 cases are unusable"):
        segment(settings)
    state = segment(settings, return_state=True)
    assert state.is_failed()
    assert "all 8 cases are unusable" in str(state.message)


def test_a_cancellation_passes_through_a_stage(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.exceptions import TerminationSignal

    from flows import stages, steps

    def cancelled(*_: object) -> str:
        raise TerminationSignal(signal=15)

    monkeypatch.setattr(stages, "run_stage", cancelled)
    monkeypatch.setattr(steps, "get_run_logger", logging.getLogger)
    with pytest.raises(TerminationSignal):
        stages.work("ingest", settings)


def test_each_stage_has_a_flow(settings: RunSettings) -> None:
    from flows import stages
    from pipeline.run import STAGES

    assert [getattr(stages, name).name for name in STAGES] == list(STAGES)
    assert stages.ingest(settings) == "8 cases (5 train, 1 val, 2 test), 0 quarantined"
    assert stages.plan(settings).startswith("2-D")


def test_flow_parameters_are_the_settings_with_their_bounds() -> None:
    from flows.segment import segment

    schema: Any = segment.parameters.model_dump()
    assert schema["required"] == ["settings"]
    steps = schema["definitions"]["TrainSettings"]["properties"]["max_steps"]
    assert steps["anyOf"][0]["minimum"] == 1
    assert "Optimizer updates" in steps["description"]


def test_wrong_parameters_are_refused_before_anything_runs(settings: RunSettings) -> None:
    from prefect.exceptions import ParameterTypeError

    from flows.segment import segment

    value = settings.model_dump(mode="json")
    value["train"]["max_minuts"] = 3
    with pytest.raises(ParameterTypeError, match=r"settings\.train\.max_minuts: Extra inputs"):
        segment.validate_parameters({"settings": value})


def test_the_command_line_follows_the_flow(settings: RunSettings) -> None:
    from flows.segment import segment
    from flows.steps import LISTENER, Listener

    told: list[str] = []
    ended: list[str] = []
    progress: Callable[..., None] = lambda stage, *_: told.append(stage)  # noqa: E731
    token = LISTENER.set(Listener(progress, lambda stage, line: ended.append(stage)))
    try:
        segment(settings, last="plan")
    finally:
        LISTENER.reset(token)
    assert told.count("ingest") == CASES
    assert ended == ["ingest", "plan"]
