"""How a run stands, in a line, in rows and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from pipeline.io.files import read_json
from pipeline.io.manifest import read_quarantine
from pipeline.predict.outlook import Outlook
from pipeline.publish import CURRENT
from pipeline.report.prediction import BLENDS
from pipeline.report.words import duration, memory, times
from pipeline.run import STAGES, RunDir, Stage, outcome

if TYPE_CHECKING:
    from flows.told import Refusal
    from pipeline.promotion import Decision
    from pipeline.publish import Version
    from pipeline.run.night import Night

FIGURES = {
    "dice": "Dice",
    "dice_ci": "95 %",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95",
    "nsd": "surface Dice",
}
"""Figures of a class or region by their name in scores.json: what tables call them."""
TARGET_COLUMNS = ("target", "MAE", "MSE", "RMSE", "R²", "pooled R²", "cases", "without R²")
MOST_LISTED = 50
"""Refused cases or signs of drift a list shows; all of them stand in a file."""
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


def score_table(
    scores: dict[str, Any], figures: Sequence[str] = tuple(FIGURES)
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the held-out figures: by class and their mean, or by target."""
    if scores.get("task") == "regression":
        return TARGET_COLUMNS, _target_rows(scores)
    return _class_table(scores, figures)


def _class_table(
    scores: dict[str, Any], figures: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row per class, one of their mean, and one per region; figures that none has left out."""
    groups = [*scores["classes"].items(), ("mean", scores["mean"])]
    groups += [(f"region {name}", of) for name, of in scores.get("regions", {}).items()]
    kept = [name for name in figures if any(g.get(name) is not None for _, g in groups)]
    kept = kept or ["dice", "iou"]
    distance = scores.get("units", {}).get("distance", "")
    named = [f"{FIGURES[n]}, {distance}" if n == "hd95" else FIGURES[n] for n in kept]
    rows = [
        (
            name,
            *(_figure(found.get(figure), ".4g" if figure == "hd95" else ".4f") for figure in kept),
            *(str(found.get(count, "")) for count in ("n_cases", "n_empty")),
        )
        for name, found in groups
    ]
    return ("class", *named, "cases", "empty"), rows


def _target_rows(scores: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, found in scores["targets"].items():
        errors = [_figure(found[key], ".4g") for key in ("mae", "mse", "rmse")]
        shares = [_figure(found[key]) for key in ("r2", "r2_pooled")]
        counts = (str(found["n_cases"]), str(found["n_constant"]))
        rows.append((name, *errors, *shares, *counts))
    return rows


def _figure(value: float | Sequence[float] | None, form: str = ".4f") -> str:
    if isinstance(value, Sequence):
        return " to ".join(format(end, form) for end in value)
    return "–" if value is None else format(value, form)


def markdown(run: RunDir, last: Stage) -> str:
    """A run's result for the Prefect UI, below its verdict: scores, refused cases, files."""
    parts = []
    if last in ("score", "report"):
        parts.append(_held_out(read_json(run.scores)))
    refused = read_quarantine(run.quarantine)
    if refused:
        parts.append(_quarantined([(r, "") for r in refused], run))
    stages = STAGES[: STAGES.index(last) + 1]
    made = (product(run, stage).split(" ", 1) for stage in stages)
    return "\n\n".join([*parts, _files(dict(made))])


def _held_out(scores: dict[str, Any]) -> str:
    # Prefect cuts wide tables off.
    return "### Held-out cases\n\n" + _table(*score_table(scores, ("dice", "dice_ci", "iou")))


def _quarantined(refused: Sequence[tuple[Refusal, str]], run: RunDir) -> str:
    """Refused cases with the day they were met on; a list, for Prefect cuts wide tables off."""
    lines = [
        f"**{_plain(r.case)}** ({r.stage}{since and f', since {since[:10]}'}): "
        f"{_plain(r.reason)} *{_plain(r.remedy)}*"
        for r, since in refused
    ]
    return f"### Quarantined: {len(refused)}\n\n{_bullets(lines, str(run.quarantine))}"


def _bullets(lines: Sequence[str], where: str) -> str:
    """A list; if it is long, its beginning and where the rest stands."""
    more = len(lines) - MOST_LISTED
    rest = [f"and {more} more: see `{where}`"] if more > 0 else []
    return "\n".join(f"- {line}" for line in [*lines[:MOST_LISTED], *rest])


def _files(places: Mapping[str, str | Path]) -> str:
    """Where what was made lies; no links, for browsers follow none from a server to a file."""
    lines = [f"{what}: `{Path(path).absolute()}`" for what, path in places.items()]
    return f"### Files on {_plain(gethostname())}\n\n{_bullets(lines, '')}"


def _table(columns: tuple[str, ...], rows: list[Any]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_plain(c) for c in line) + " |" for line in lines)


def _plain(text: str) -> str:
    r"""Text as a line of Markdown that shows it as it is.

    Example:
        >>> print(_plain("masks/*.png | <case>"))
        masks/\*.png \| \<case>
    """
    return re.sub(r"([|*<`[\\])", r"\\\1", " ".join(text.split()))


def night_markdown(night: Night, run: RunDir) -> str:
    """A night for the Prefect UI, below its verdict: what changed, scores, drift, refused cases."""
    current = run.published / CURRENT
    parts = [f"- model: {_plain(night.model)}"]
    if night.publication is not None and night.publication.is_new:
        parts = ["\n".join(parts + _changes(night.publication.version))]
        parts += _removed(night.publication.version, current)
    if night.scores is not None:
        parts.append(_held_out(night.scores))
    if night.drift:
        flags = _bullets([_plain(flag.sentence) for flag in night.drift], str(run.nights))
        parts.append(f"### Signs of drift: {len(night.drift)}\n\n{flags}")
    if night.refused:
        parts.append(_quarantined([(r, r.since) for r in night.refused], run))
    report = {"report": run.report} if run.report.exists() else {}
    return "\n\n".join([*parts, _files({"masks": current, **report})])


def _changes(version: Version) -> list[str]:
    """Cases whose masks are new, or others than before."""
    lists = {"new": version.added, "changed": version.changed}
    return [f"- {what}: {_named(cases)}" for what, cases in lists.items() if cases]


def _removed(version: Version, where: Path) -> list[str]:
    """Cases whose masks are gone."""
    if not version.removed:
        return []
    gone = [f"**{_plain(case)}**: {_plain(why)}" for case, why in version.removed.items()]
    return [f"### No longer published: {len(gone)}\n\n{_bullets(gone, str(where))}"]


def _named(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else ""
    return ", ".join(map(_plain, cases[:MOST_NAMED])) + more


def decision_markdown(decision: Decision) -> str:
    """What became of a new model, for the Prefect UI, below its verdict."""
    rows = [
        ("new", decision.candidate, _figure(decision.candidate_score)),
        ("serving before", decision.serving or "–", _figure(decision.serving_score)),
    ]
    return _table(("model", "id", f"held-out score, {counted(decision.cases)}"), rows)
