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


def last_name() -> str:
    """Name of the flow run that ended last."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        return client.read_flow_runs(sort=FlowRunSort.END_TIME_DESC, limit=1)[0].name


def test_nights_tell_what_happened_by_name_message_event_and_artifact(
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
    summary = artifact("segflow-discs")
    assert summary.description == state.message
    assert "| mean | " in summary.data and "- new: disc_0, disc_1" in summary.data
    assert f"- report: `{dataset.run.report}`" in summary.data
    assert float(artifact("segflow-discs-predict-progress").data) == 100.0

    dataset.draw("torn", 99)
    dataset.tear("torn")
    dataset.draw("new", 100)
    events.clear()
    state = nightly(dataset.settings, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert "1 added; 1 case quarantined (1 since tonight: torn)" in state.message
    assert [name for name, *_ in events] == ["segflow.case.quarantined", "segflow.run.published"]
    assert events[0][1] == "segflow.case.discs.torn" and events[0][2]["stage"] == "ingest"
    summary = artifact("segflow-discs").data
    assert "### Quarantined: 1\n\n- **torn** (ingest, since 20" in summary
    assert "): torn.png cannot be read: it is truncated or damaged" in summary

    events.clear()
    state = nightly(dataset.settings, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert last_name() == "discs: nothing new, v0002, 1 quarantined"
    assert [name for name, *_ in events] == ["segflow.run.unchanged"]


def test_a_night_steps_aside_for_another_segflow(dataset: Dataset) -> None:
    from flows.nightly import nightly
    from flows.retrain import retrain

    with (dataset.run.root / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for flow in (nightly, retrain):
            state = flow(dataset.settings, return_state=True)
            assert state.type.value == "CANCELLED"
            assert "stepped aside: another segflow is at work in" in state.message


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
    assert state.is_completed() and "nothing new to learn" in state.message
    assert last_name() == "discs: kept the former model"


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
