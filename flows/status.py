"""How far a run is, from its small files alone: no voxel is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.io.files import read_json, read_jsonl
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.io.store import published_key
from pipeline.run import RunDir, RunSettings, Stage

State = Literal["done", "partly done", "not yet done"]


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is."""

    stage: Stage
    """The stage."""
    state: State
    """Whether its product stands; whether the product is of these very settings is for the stage
    itself to say."""
    detail: str
    """Numbers, and where to look."""


def read_status(settings: RunSettings) -> list[StageStatus]:
    """The stages of a run, in order.

    Raises:
        StoreError: A file of the run is damaged; the message names it.
    """
    return [StageStatus(stage, *look(settings, settings.dir)) for stage, look in LOOKS.items()]


def _ingest(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    rows = read_manifest(run.manifest)
    if not rows:
        stores = len(list(run.volumes.glob("*.zarr")))
        return ("partly done", f"{stores} volume stores") if stores else ("not yet done", "")
    complete = sum(row.status == "complete" for row in rows)
    refused = len({row.case for row in read_quarantine(run.quarantine)})
    detail = f"{complete} of {len(rows)} cases"
    return "done", f"{detail}, {refused} quarantined: see {run.quarantine}" if refused else detail


def _plan(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if not run.plan.exists():
        return "not yet done", ""
    plan = read_json(run.plan)
    return "done", f"{plan['ndim']}-D, patches of {tuple(plan['patch_shape'])}: {run.plan}"


def _patch(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if published_key(run.patches) is not None:
        return "done", str(run.patches)
    shards = len(read_jsonl(run.ledger / "patch.jsonl"))
    return ("partly done", f"{shards} shards") if shards else ("not yet done", "")


def _train(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    log = read_jsonl(run.checkpoints / "log.jsonl")
    steps = log[-1]["step"] if log else 0
    finished = run.checkpoints / "train.json"
    if finished.exists():
        card = read_json(finished)
        if steps >= card["steps"]:
            dice = card["val_dice"]
            shown = "" if dice is None else f", validation Dice {dice:.4f}"
            return "done", f"model {card['model_id']}{shown}"
    return ("partly done", f"{steps} steps") if steps else ("not yet done", "")


def _predict(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    card = run.model.with_suffix(".json")
    if not card.exists():
        return "not yet done", ""
    folder = run.predictions / read_json(card)["model_id"]
    rows = read_manifest(run.manifest)
    refused = {row.case for row in read_quarantine(run.quarantine)}
    wanted = {row.id for row in rows if row.split in settings.predict.splits} - refused
    made = len(wanted & {path.stem for path in folder.glob("*.zarr")})
    if not made:
        return "not yet done", ""
    return ("done" if made == len(wanted) else "partly done"), f"{made} of {len(wanted)}: {folder}"


def _score(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    if not run.scores.exists():
        return "not yet done", ""
    dice = read_json(run.scores)["mean"]["dice"]
    return (
        "done",
        f"{'no held-out case' if dice is None else f'mean Dice {dice:.4f}'}: {run.scores}",
    )


def _report(settings: RunSettings, run: RunDir) -> tuple[State, str]:
    return ("done", str(run.report)) if run.report.exists() else ("not yet done", "")


Look = Callable[[RunSettings, RunDir], tuple[State, str]]
LOOKS: dict[Stage, Look] = {
    "ingest": _ingest,
    "plan": _plan,
    "patch": _patch,
    "train": _train,
    "predict": _predict,
    "score": _score,
    "report": _report,
}
