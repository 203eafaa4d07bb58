"""Nights and retrainings as Prefect runs them: states, artifacts, events, steps aside."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import CaseError, ExecutionError, ModelError
from tests.flows.discs import CASES
from tests.nights.conftest import Dataset, dataset, make_dataset, template

pytestmark = pytest.mark.usefixtures("prefect_server")
__all__ = ["dataset", "make_dataset", "template"]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """Events as they go out: name, resource, payload. They go out all the same."""
    from flows import told

    sent: list[tuple[str, str, dict[str, Any]]] = []
    emit: Callable[..., Any] = told.emit_event

    def kept(event: str, resource: dict[str, str], payload: dict[str, Any]) -> Any:
        sent.append((event, resource["prefect.resource.id"], payload))
        return emit(event=event, resource=resource, payload=payload)

    monkeypatch.setattr(told, "emit_event", kept)
    return sent


def artifact(key: str) -> Any:
    """The last artifact of a key."""
    from prefect.artifacts import Artifact

    return Artifact.get(key)


def test_nights_end_in_states_that_tell_what_happened(
    dataset: Dataset, events: list[tuple[str, str, dict[str, Any]]]
) -> None:
    from flows.nightly import nightly

    state = nightly(dataset.settings, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert state.message.startswith(f"published v0001: {CASES} added; mean Dice")
    assert [(name, who) for name, who, _ in events] == [
        ("segflow.run.published", "segflow.run.discs")
    ]
    assert events[0][2]["version"] == "v0001"
    summary = artifact("segflow-discs").data
    assert "| mean | " in summary and "new: disc_0, disc_1" in summary
    assert str(dataset.run.report) in artifact("segflow-discs-report").data
    assert float(artifact("segflow-discs-predict-progress").data) == 100.0

    dataset.draw("torn", 99)
    dataset.tear("torn")
    dataset.draw("new", 100)
    events.clear()
    state = nightly(dataset.settings, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Quarantined")
    assert "1 added; 1 case quarantined (1 since tonight: torn)" in state.message
    assert [name for name, *_ in events] == ["segflow.case.quarantined", "segflow.run.published"]
    assert events[0][1] == "segflow.case.discs.torn" and events[0][2]["stage"] == "ingest"
    assert "### Quarantined: 1" in artifact("segflow-discs").data

    events.clear()
    state = nightly(dataset.settings, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "NothingNew")
    assert [name for name, *_ in events] == ["segflow.run.unchanged"]


def test_a_night_steps_aside_for_another_segflow(dataset: Dataset) -> None:
    from flows.nightly import nightly
    from flows.retrain import retrain

    with (dataset.run.root / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for flow in (nightly, retrain):
            state = flow(dataset.settings, return_state=True)
            assert (state.type.value, state.name) == ("COMPLETED", "SteppedAside")
            assert "another segflow is at work in" in state.message


def test_a_failed_night_fails_with_its_own_error(dataset: Dataset) -> None:
    from flows.nightly import nightly

    dataset.run.trained.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="there is no usable model at"):
        nightly(dataset.settings)


def test_a_retraining_tells_its_decision(dataset: Dataset) -> None:
    from flows.retrain import retrain

    state = retrain(dataset.settings, return_state=True)
    assert (state.name, state.message.split(":")[1]) == ("Completed", " it is the first")
    assert "| new | unet-" in artifact("segflow-discs").data
    state = retrain(dataset.settings, return_state=True)
    assert state.name == "Kept"


def test_what_may_pass_is_tried_again_and_bad_input_never(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import nightly as module

    tried: list[str] = []

    def fails(error: Exception) -> Callable[..., Any]:
        def step(*_: Any) -> Any:
            tried.append(type(error).__name__)
            raise error

        return step

    quick = module.night_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(module, "night_task", quick)
    for error in (ConnectionResetError("gone"), ExecutionError("gone"), CaseError("bad", "fix")):
        monkeypatch.setitem(module.STEPS, "ingest", fails(error))
        with pytest.raises(type(error)):
            module.nightly(dataset.settings)
    assert tried == ["ConnectionResetError"] * 3 + ["ExecutionError"] * 3 + ["CaseError"]
