"""How a run stands, in a line, in rows and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.io.files import read_json
from pipeline.io.manifest import read_quarantine
from pipeline.predict.outlook import Outlook
from pipeline.publish import CURRENT
from pipeline.report.prediction import BLENDS
from pipeline.report.words import duration, memory, times
from pipeline.run import RunDir, Stage, outcome

if TYPE_CHECKING:
    from pipeline.promotion import Decision
    from pipeline.publish import Version
    from pipeline.run.night import Night

CLASS_COLUMNS = ("class", "Dice", "IoU", "precision", "recall", "cases", "empty")
TARGET_COLUMNS = ("target", "MAE", "MSE", "RMSE", "R²", "pooled R²", "cases", "without R²")
MOST_REFUSED = 50
"""Refused cases a table lists; all of them stand in the file."""
MOST_NAMED = 20
"""Cases a line names."""


def product(run: RunDir, stage: Stage) -> str:
    """Where the work of a stage is to be found."""
    match stage:
        case "ingest":
            return f"manifest {run.manifest}"
        case "plan":
            return f"plan {run.plan}"
        case "patch":
            return f"patches {run.patches}"
        case "train":
            return f"model {run.model}"
        case "predict":
            return f"masks {run.predictions}"
        case "score":
            return f"scores {run.scores}"
        case "report":
            return f"report {run.report}"


def verdict(run: RunDir, last: Stage) -> str:
    """The line a run ends with, after its stage ``last``."""
    found = outcome(run)
    if found.quarantined:
        return f"complete, {counted(found.quarantined)} quarantined: see {run.quarantine}"
    return f"complete: {counted(found.complete)}; {product(run, last)}"


def counted(number: int, what: str = "case") -> str:
    """A number of things, in words.

    Example:
        >>> counted(1), counted(2, "mask")
        ('1 case', '2 masks')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def outlook_rows(found: Outlook) -> list[tuple[str, str]]:
    """What a prediction would do, in rows."""
    processor, tiling = found.arranged.processor, found.arranged.tiling
    rows = [
        ("cases", f"{found.cases} to predict, {found.done} up to date, {found.refused} unfit"),
        ("boxes written", f"{found.pieces:,}"),
        ("tiling", BLENDS[tiling.blend]),
        ("tile", f"{times(tiling.tile)} voxels"),
        ("halo", f"{times(tiling.halo)} voxels"),
        ("tiles", f"{found.tiles:,}, fewer where there is no data"),
        ("redundancy", f"{found.redundancy:.2f} voxels seen for each one labelled"),
        ("processor", f"{processor.device}, {processor.precision}"),
        ("memory", f"{memory(found.bytes)} for each worker"),
        ("time", f"{duration(found.seconds)} of network passes"),
    ]
    return rows + [("why", tiling.reason)] * bool(tiling.reason)


def score_table(scores: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the held-out figures: by class and their mean, or by target."""
    if scores.get("task") == "regression":
        return TARGET_COLUMNS, _target_rows(scores)
    return CLASS_COLUMNS, _class_rows(scores)


def _class_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, found in scores["classes"].items():
        figures = [_figure(found[key]) for key in ("dice", "iou", "precision", "recall")]
        rows.append((name, *figures, str(found["n_cases"]), str(found["n_empty"])))
    mean = [_figure(scores["mean"][key]) for key in ("dice", "iou")]
    rows.append(("mean", *mean, "", "", "", ""))
    return rows


def _target_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, found in scores["targets"].items():
        errors = [_figure(found[key], ".4g") for key in ("mae", "mse", "rmse")]
        shares = [_figure(found[key]) for key in ("r2", "r2_pooled")]
        counts = (str(found["n_cases"]), str(found["n_constant"]))
        rows.append((name, *errors, *shares, *counts))
    return rows


def _figure(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)


def markdown(run: RunDir, last: Stage) -> str:
    """A run's result for the Prefect UI: verdict, scores, refused cases."""
    parts = [verdict(run, last)]
    if last in ("score", "report"):
        parts.append(_table(*score_table(read_json(run.scores))))
    refused = [(r.case, r.stage, r.reason, r.remedy) for r in read_quarantine(run.quarantine)]
    if refused:
        shown = _table(("case", "stage", "reason", "what to do"), refused[:MOST_REFUSED])
        parts.append(f"### Quarantined: {len(refused)}\n\n{shown}")
    return "\n\n".join(parts)


def _table(columns: tuple[str, ...], rows: list[Any]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def night_markdown(night: Night, run: RunDir) -> str:
    """A night for the Prefect UI: verdict, what changed, scores, drift, refused cases."""
    parts = [f"**{night.sentence()}**", f"model {night.model}; masks: `{run.published / CURRENT}`"]
    if night.publication is not None and night.publication.is_new:
        parts += _changes(night.publication.version)
    if night.scores is not None:
        parts.append("### Held-out cases\n\n" + _table(*score_table(night.scores)))
    if night.drift:
        flags = "\n".join(f"- {_cell(flag.sentence)}" for flag in night.drift[:MOST_REFUSED])
        parts.append(f"### Signs of drift: {len(night.drift)}\n\n{flags}")
    if night.refused:
        rows = [(r.case, r.stage, r.reason, r.remedy, r.since) for r in night.refused]
        shown = _table(("case", "stage", "reason", "what to do", "since"), rows[:MOST_REFUSED])
        parts.append(f"### Quarantined: {len(night.refused)}\n\n{shown}")
    return "\n\n".join(parts)


def _changes(version: Version) -> list[str]:
    """Cases whose masks are new or others than before, and those that are gone."""
    lists = {"new": version.added, "changed": version.changed}
    parts = [f"{what}: {_named(cases)}" for what, cases in lists.items() if cases]
    if version.removed:
        gone = "\n".join(f"- {case}: {why}" for case, why in version.removed.items())
        parts.append(f"### No longer published: {len(version.removed)}\n\n{gone}")
    return parts


def _named(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else ""
    return ", ".join(cases[:MOST_NAMED]) + more


def decision_markdown(decision: Decision) -> str:
    """What became of a new model, for the Prefect UI."""
    rows = [
        ("new", decision.candidate, _figure(decision.candidate_score)),
        ("serving before", decision.serving or "–", _figure(decision.serving_score)),
    ]
    table = _table(("model", "id", f"held-out score, {counted(decision.cases)}"), rows)
    return f"**{decision.sentence}**\n\n{table}"
