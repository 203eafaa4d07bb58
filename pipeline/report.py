"""Scores → one page that says how the run went: tables, curves, pictures, provenance.

``report()`` gathers plain values from the files of a run, ``report.html`` lays them out. Whatever
is missing on disk is said on the page; a report is written in any case.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.drawing import Series, View, choose_views, contours, greys, line_chart, png
from pipeline.errors import ModelError, StoreError
from pipeline.io.files import read_json, read_jsonl, write_atomic
from pipeline.io.manifest import ManifestRow, QuarantineRow, read_manifest, read_quarantine
from pipeline.io.mask_store import MaskStore
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import ModelCard, read_card, versions
from pipeline.plan_file import Plan
from pipeline.space import Grid, Window

STAGE = "report"
# Below this a volume is read whole, above it from its pyramid.
WHOLE_BYTES = 64 * 2**20
MOST_ROWS = 1000
NO_SCORES: dict[str, Any] = {
    "model_id": None,
    "split": "test",
    "mean": {"dice": None},
    "classes": {},
    "cases": [],
    "rules": "",
}


class ReportSettings(BaseModel):
    """What the report shows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cases: Annotated[int, Field(ge=0)] = 6
    """Held-out cases shown as pictures: the worst, the median and the best by mean Dice over
    classes, in equal parts."""


@dataclass(frozen=True)
class CaseScore:
    """A case in one line."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    classes: dict[str, float | None]
    """Dice by class; None where the class is in neither truth nor mask."""

    @property
    def mean(self) -> float | None:
        """Mean Dice over the classes that are there; None where none is."""
        values = [v for v in self.classes.values() if v is not None]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Evidence:
    """What is on disk, read once."""

    run_name: str
    scores: dict[str, Any]
    scored: bool
    card: ModelCard | None
    manifest: list[ManifestRow]
    quarantine: list[QuarantineRow]
    log: list[dict[str, Any]]
    record: dict[str, Any] | None
    volumes: Path
    predictions: Path

    @cached_property
    def cases(self) -> list[CaseScore]:
        """Scored cases, worst first, those without a figure last."""
        found: dict[tuple[str, str], dict[str, float | None]] = defaultdict(dict)
        for row in self.scores["cases"]:
            found[row["case"], row["split"]][row["class"]] = row["dice"]
        cases = [CaseScore(case, split, classes) for (case, split), classes in found.items()]
        return sorted(cases, key=lambda c: (c.mean is None, c.mean, c.case))

    @property
    def ranked(self) -> list[CaseScore]:
        """Held-out cases that have a mean Dice, worst first."""
        split = self.scores["split"]
        return [c for c in self.cases if c.split == split and c.mean is not None]

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """Classes of the model; none where there is no model."""
        return () if self.card is None else self.card.plan.label_classes

    @property
    def refused(self) -> set[str]:
        """Ids of the quarantined cases."""
        return {row.case for row in self.quarantine}

    def color(self, name: str) -> tuple[int, int, int]:
        """Colour of a class, grey where the model does not know it."""
        return next((c.color for c in self.classes if c.name == name), (128, 128, 128))


def report(
    settings: ReportSettings,
    *,
    run_name: str,
    model: Path,
    manifest: Path,
    quarantine: Path,
    volumes: Path,
    predictions: Path,
    scores: Path,
    training_log: Path,
    prediction_record: Path,
    settings_text: str,
    path: Path,
) -> None:
    """Write the report's page, and ``report.md`` for a terminal beside it.

    Args:
        settings: What the page shows.
        run_name: The run's name.
        model: Weights of the model; its sidecar stands beside it. May be absent.
        manifest: One row per case.
        quarantine: One row per refused case; may be absent.
        volumes: Folder of the volume stores.
        predictions: Folder of the mask stores, one folder per model.
        scores: scores.json; may be absent.
        training_log: Rows of training and validation; may be absent.
        prediction_record: What the last prediction did; may be absent.
        settings_text: The resolved settings, as YAML.
        path: The page to write.

    Raises:
        StoreError: A file is there and cannot be read.
    """
    evidence = Evidence(
        run_name=run_name,
        scores={**NO_SCORES, **read_json(scores)} if scores.exists() else NO_SCORES,
        scored=scores.exists(),
        card=_card(model),
        manifest=read_manifest(manifest),
        quarantine=read_quarantine(quarantine),
        log=read_jsonl(training_log),
        record=read_json(prediction_record) if prediction_record.exists() else None,
        volumes=volumes,
        predictions=predictions,
    )
    page = {
        "run_name": run_name,
        "settings_text": settings_text,
        **_outcome(evidence),
        **_tables(evidence),
        **_training(evidence),
        **_gallery(evidence, settings.cases),
        **_prediction(evidence),
        **_provenance(evidence),
    }
    write_atomic(path.with_name("report.md"), _markdown(page).encode())
    write_atomic(path, _page(page).encode())


def _card(model: Path) -> ModelCard | None:
    try:
        return read_card(model)
    except ModelError:
        return None


# Words and numbers


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _counted(value: int, one: str, many: str = "") -> str:
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def _bytes(value: float) -> str:
    """Bytes in words, 1024 to the step."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit in ("bytes", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _duration(seconds: float) -> str:
    """A length of time in the two largest units that matter."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _times(sizes: Any) -> str:
    if not isinstance(sizes, list | tuple):
        return "–" if sizes is None else str(sizes)
    return " × ".join(f"{n:g}" for n in sizes)


# Outcome and scores


def _outcome(evidence: Evidence) -> dict[str, Any]:
    complete = {r.id for r in evidence.manifest if r.status == "complete"} - evidence.refused
    good, bad = len(complete), len(evidence.refused)
    mean = evidence.scores["mean"]["dice"]
    no_dice = "no held-out case has been scored" if evidence.scored else "there are no scores yet"
    if evidence.scores["cases"]:
        no_dice = "no scored class is in truth or mask of any held-out case"
    return {
        "outcome": {"clean": bool(good) and not bad, "sentence": _sentence(good, bad)},
        "mean_dice": mean,
        "no_dice": no_dice,
        "held_out": len({c.case for c in evidence.cases if c.split == evidence.scores["split"]}),
        "split": evidence.scores["split"],
        "quarantined": evidence.quarantine,
        "warnings": _warnings(evidence, complete),
    }


def _sentence(good: int, bad: int) -> str:
    if not good + bad:
        return "No case has been taken in yet."
    if not good:
        return f"No usable case: {_counted(bad, 'case')} quarantined, none left."
    if not bad:
        return f"Complete: {_counted(good, 'case')}, none quarantined."
    verb = "is" if bad == 1 else "are"
    sentence = f"{bad:,} of {_counted(good + bad, 'case')} {verb} quarantined"
    if bad > good:
        return f"Most cases were refused: {sentence}."
    return f"Complete, but {sentence}."


def _warnings(evidence: Evidence, complete: set[str]) -> list[str]:
    """What a reader must know before trusting the figures."""
    scores, card, record, found = evidence.scores, evidence.card, evidence.record, []
    held_out = {r.id for r in evidence.manifest if r.split == scores["split"]} & complete
    unscored = sorted(held_out - {c.case for c in evidence.cases})
    if evidence.scored and unscored:
        names = ", ".join(unscored[:5]) + (" …" if len(unscored) > 5 else "")
        found.append(
            f"{_counted(len(unscored), 'held-out case')} of {len(held_out):,} not scored: {names}."
        )
    gone = sorted({c.case for c in evidence.cases} & evidence.refused)
    if gone:
        found.append(f"Scored, but quarantined since: {', '.join(gone[:5])}. Score again.")
    if card is None:
        found.append("There is no readable model, so nothing is said of its plan and weights.")
    elif scores["model_id"] not in (None, card.model_id):
        found.append(
            f"The scores are of model {scores['model_id']}, the run's model now is "
            f"{card.model_id}: predict and score again."
        )
    if record is not None and scores["model_id"] not in (None, record["model_id"]):
        found.append(
            f"The last prediction was made by model {record['model_id']}, the scores are of "
            f"{scores['model_id']}."
        )
    return found


def _tables(evidence: Evidence) -> dict[str, Any]:
    scores, cases = evidence.scores, evidence.cases
    classes = [
        {"name": name, "color": evidence.color(name), **figures}
        for name, figures in scores["classes"].items()
    ]
    return {
        "classes": classes,
        "averaged": sum(c["dice"] is not None for c in classes),
        "rules": scores["rules"],
        "cases": cases[:MOST_ROWS],
        "hidden_cases": len(cases[MOST_ROWS:]),
        "several_splits": len({c.split for c in cases}) > 1,
    }


# Training


def _training(evidence: Evidence) -> dict[str, Any]:
    """Curves over steps; of a step that was logged twice, before and after a kill, the later."""
    train = {r["step"]: r for r in evidence.log if r["kind"] == "train"}
    val = {r["step"]: r for r in evidence.log if r["kind"] == "val"}
    curves = [
        _curve([_series("loss", train, "loss")], "training loss", _loss_caption(train)),
        _dice_curve(evidence, val),
        _curve([_series("learning rate", train, "learning_rate")], "learning rate", ""),
    ]
    return {
        "curves": [curve for curve in curves if curve["svg"]],
        "training_lead": _training_lead(train),
    }


def _series(name: str, rows: Mapping[int, Mapping[str, Any]], key: str, **color: Any) -> Series:
    points = [(float(s), float(r[key])) for s, r in sorted(rows.items()) if r.get(key) is not None]
    return Series(name, tuple(points), **color)


def _curve(series: Sequence[Series], label: str, caption: str, **kept: Any) -> dict[str, Any]:
    svg = line_chart(series, x_label="step", y_label=label, **kept)
    return {"svg": svg, "caption": caption, "classes": []}


def _loss_caption(train: Mapping[int, Mapping[str, Any]]) -> str:
    if len(train) < 2:
        return ""
    first, last = train[min(train)], train[max(train)]
    return f"From {first['loss']:.4f} to {last['loss']:.4f}."


def _dice_curve(evidence: Evidence, val: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in val.values() for name in row.get("classes") or {}))
    each = {s: row.get("classes") or {} for s, row in val.items()}
    series = [_series(name, each, name, color=evidence.color(name)) for name in names]
    series.append(_series("mean", val, "dice"))
    curve = _curve(series, "validation Dice", "", y_range=(0.0, 1.0))
    scored = [(row["dice"], -step) for step, row in val.items() if row["dice"] is not None]
    if scored:
        best, step = max(scored)
        curve["caption"] = f"Best mean {best:.4f}, at step {-step:,}."
    curve["classes"] = [{"name": name, "color": evidence.color(name)} for name in names]
    return curve


def _training_lead(train: Mapping[int, Mapping[str, Any]]) -> str:
    if not train:
        return "The log holds no training step."
    last = train[max(train)]
    speed = float(np.median([r["patches_per_s"] for r in train.values()]))
    waiting = float(np.median([r["data_wait"] for r in train.values()]))
    return (
        f"{_counted(max(train), 'step')}, {_counted(last['position'], 'patch', 'patches')} seen; "
        f"median {speed:,.1f} patches per second, {waiting:.0%} of the time waiting for data."
    )


# Gallery


def _gallery(evidence: Evidence, most: int) -> dict[str, Any]:
    chosen = choose_cases(evidence.ranked, most) if evidence.classes else []
    gallery = [_shown(evidence, case, role, i) for i, (case, role) in enumerate(chosen)]
    reason = "No held-out case has a Dice to rank it by."
    if not most:
        reason = "Left out by the setting report.cases."
    elif not evidence.classes:
        reason = "No pictures: without the model's card the classes are unknown."
    return {
        "gallery": gallery,
        "no_gallery": reason,
        "label_classes": [c for c in evidence.classes if not c.background],
        "shown_at": {case["case"]: case["id"] for case in gallery},
        "turned": next((case["turned"] for case in gallery if case["turned"]), ""),
    }


def choose_cases(ranked: Sequence[CaseScore], most: int) -> list[tuple[CaseScore, str]]:
    """The worst, the median and the best cases, each with its role in words.

    Args:
        ranked: Cases, worst first.
        most: How many to choose; of each kind a third, the worst and then the best favoured.
    """
    n, most = len(ranked), min(most, len(ranked))
    worst, best = -(-most // 3), (most + 1) // 3
    middle = most - worst - best
    # The middle ones lie around the median, but never among the worst or the best.
    start = min(max((n - middle + 1) // 2, worst), n - best - middle)
    kinds = [(range(worst), "worst"), (range(start, start + middle), "median")]
    kinds.append((range(n - best, n), "best"))
    return [(ranked[i], f"{kind}, {i + 1} of {n}") for span, kind in kinds for i in span]


@dataclass(frozen=True)
class Pictured:
    """Arrays of a case at one resolution."""

    image: NDArray[Any]
    """(C, *S)."""
    truth: NDArray[Any]
    """(*S)."""
    prediction: NDArray[Any] | None
    """(*S); None where there is no mask."""
    grid: Grid
    """Of these arrays."""
    factors: tuple[int, ...]
    """Voxels of the full-size arrays in one of these, per axis."""


def _shown(evidence: Evidence, case: CaseScore, role: str, number: int) -> dict[str, Any]:
    """A case of the gallery: its pictures, or why there are none."""
    shown: dict[str, Any] = {
        "id": f"case-{number}",
        "case": case.case,
        "role": role,
        "mean": case.mean,
        "classes": case.classes if len(case.classes) > 1 else {},
        "views": [],
        "problem": "",
        "grid": "",
        "turned": "",
    }
    folders = {row.id: row.store for row in evidence.manifest}
    mask_path = evidence.predictions / str(evidence.scores["model_id"]) / f"{case.case}.zarr"
    try:
        volume = VolumeStore(evidence.volumes / folders.get(case.case, f"{case.case}.zarr"))
    except StoreError as error:
        return {**shown, "problem": f"No pictures: {error}"}
    if not volume.labelled:
        return {**shown, "problem": f"No pictures: {volume.path} holds no truth."}
    mask: MaskStore | None = None
    try:
        mask = MaskStore(mask_path)
        if difference := volume.grid.difference(mask.grid):
            mask = None
            shown["problem"] = f"The mask {mask_path} is of another grid: {difference}."
    except StoreError as error:
        shown["problem"] = f"Its mask cannot be shown: {error}"
    pictured = _read(volume, mask)
    limits = _limits(volume)
    return {
        **shown,
        "views": [
            _view(pictured, view, limits, evidence.classes, f"{shown['id']}-{i}")
            for i, view in enumerate(_views(pictured, evidence.classes))
        ],
        "grid": _grid_in_words(volume.grid),
        "turned": _turned(volume.grid),
    }


def _read(volume: VolumeStore, mask: MaskStore | None) -> Pictured:
    """Small cases whole, large ones from a coarser level of the pyramid."""
    size = prod(volume.grid.shape) * len(volume.channels) * volume.dtype.itemsize
    if size > WHOLE_BYTES:
        image, factors = volume.overview()
        prediction = None if mask is None else mask.overview()
        grid = volume.grid.coarser(factors)
        return Pictured(image, volume.truth_overview(), prediction, grid, factors)
    window = Window.whole(volume.grid.shape)
    prediction = None if mask is None else mask.read(window)
    image = volume.read(window).array
    ones = (1,) * len(window.shape)
    return Pictured(image, volume.read_truth(window), prediction, volume.grid, ones)


def _limits(volume: VolumeStore) -> list[tuple[float, float]]:
    """What is black and what is white in each band shown: the 1st and the 99th percentile.

    Three bands are red, green and blue, as are the first three of a scene with more; of other
    images the first is shown. Colour photographs are shown as they are.
    """
    bands = 3 if len(volume.channels) == 3 or (volume.grid.crs and len(volume.channels) > 3) else 1
    if bands == 3 and volume.dtype == np.uint8 and volume.grid.crs is None:
        return [(0.0, 255.0)] * 3
    found = [c["percentiles"] for c in volume.statistics["channels"][:bands]]
    return [(p["1"], p["99"]) for p in found]


def _views(pictured: Pictured, classes: Sequence[LabelClass]) -> list[View]:
    wanted = [c.label for c in classes if not c.background]
    foreground = np.isin(pictured.truth, wanted)
    if not foreground.any() and pictured.prediction is not None:
        foreground = np.isin(pictured.prediction, wanted)
    return choose_views(pictured.grid, foreground)


def _view(
    pictured: Pictured,
    view: View,
    limits: Sequence[tuple[float, float]],
    classes: Sequence[LabelClass],
    name: str,
) -> dict[str, Any]:
    truth = view.cut(pictured.truth)
    height, width = size = view.size((truth.shape[0], truth.shape[1]))
    title = view.name
    if view.axis is not None:
        factor = pictured.factors[view.axis]
        place = view.index * factor + (factor - 1) // 2
        title = f"{view.name}, {pictured.grid.axes[view.axis]} = {place}"
    prediction = None if pictured.prediction is None else view.cut(pictured.prediction)
    # Three planes stand side by side, each smaller on the page than a scene is.
    line = 2 if view.axis is None else 3
    return {
        "id": name,
        "title": title,
        "width": width,
        "height": height,
        "share": f"{truth.shape[1] * view.spacing[1]:.4g}",
        "image": png(greys(view.cut(pictured.image[: len(limits)]), limits), size),
        "truth": png(contours(truth, size, classes, width=line)),
        "prediction": None
        if prediction is None
        else png(contours(prediction, size, classes, width=line, truth=truth)),
    }


def _grid_in_words(grid: Grid) -> str:
    unit = {"millimeter": " mm", "meter": " m", "degree": "°", None: ""}.get(
        grid.unit, f" {grid.unit}"
    )
    words = f"{_times(grid.shape)} voxels ({', '.join(grid.axes)})"
    if grid.unit is not None:
        words += f", {' × '.join(f'{s:.4g}' for s in grid.spacing)}{unit}"
    return words


def _turned(grid: Grid) -> str:
    if grid.crs is not None:
        return "North is up."
    if len(grid.shape) == 3 and grid.unit == "millimeter":
        return "Superior or anterior is up, the patient's right is on the right."
    return ""


# Prediction and provenance


def _prediction(evidence: Evidence) -> dict[str, Any]:
    record = evidence.record
    if record is None:
        return {"prediction": [], "seam": ""}
    blend = {
        "exact": "exact tiles with halo",
        "gaussian": "overlapping tiles, Gaussian weights",
    }
    speed = record["voxels"] / record["seconds"] if record["seconds"] else 0.0
    layout = "channels last" if record["channels_last"] else "channels first"
    rows = [
        ("cases", _count(record["cases"])),
        ("tiling", blend.get(record["blend"], record["blend"])),
        ("tile", f"{_times(record['tile'])} voxels"),
        ("halo", f"{_times(record['halo'])} voxels"),
        ("processor", f"{record['device']}, {record['precision']}, {layout}"),
        ("memory, estimated", _bytes(record["estimated_bytes"])),
        ("memory, measured peak", _bytes(record["peak_bytes"])),
        ("time", _duration(record["seconds"])),
        ("throughput", f"{_count(speed)} voxels per second"),
        ("voxels predicted", _count(record["voxels"])),
    ]
    return {"prediction": rows, "seam": _seam(record)}


def _seam(record: Mapping[str, Any]) -> str:
    seam = record["seam"]
    if seam is None:
        return "Seams were not measured."
    voxels, different = seam["voxels"], seam["different"]
    if not voxels:
        return "Seams were not measured: no label was compared."
    if not different:
        return f"No seams: all {voxels:,} labels compared equal those of one pass over the whole."
    share = 1e6 * different / voxels
    return (
        f"{different:,} of {voxels:,} labels compared differ from those of one pass over the whole "
        f"({share:,.3g} in a million)."
    )


def _provenance(evidence: Evidence) -> dict[str, Any]:
    card = evidence.card
    if card is None:
        return {"model": [], "plan": []}
    facts = [
        ("model", card.model_id),
        ("weights, sha256", card.weights_sha256),
        ("plan key", card.plan_key),
        ("trained with", _versions(card.versions)),
        ("reported with", _versions(versions())),
    ]
    facts += [(f"training: {k.replace('_', ' ')}", _value(v)) for k, v in card.training.items()]
    return {"model": facts, "plan": _plan(card.plan)}


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _plan(plan: Plan) -> list[tuple[str, str, str]]:
    """Decisions with their values and reasons."""
    network = plan.network
    values = {
        "classes": ", ".join(c.name for c in plan.classes),
        "channels": ", ".join(plan.channels),
        "spacing": f"{' × '.join(f'{s:.4g}' for s in plan.spacing)} {plan.unit or ''}".strip(),
        "patch_shape": _times(plan.patch_shape),
        "batch_size": str(plan.batch_size),
        "stages": str(len(network.strides)),
        "network": f"{network.kind}, {network.ndim}-D, {network.norm} norm, "
        f"features {', '.join(map(str, network.features))}",
        "normalisation": plan.normalisation.kind,
    }
    reasons = {
        "classes": "set in data.classes",
        "channels": "as the images have them",
        "spacing": "median over the cases",
        **plan.reasons,
    }
    names = [*values, *(name for name in reasons if name not in values)]
    return [(n.replace("_", " "), values.get(n, "–"), reasons.get(n, "–")) for n in names]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# Writing


def _page(page: Mapping[str, Any]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    environment.filters.update(
        dice=_dice, count=_count, counted=_counted, csp_source=_content_security_source
    )
    source = files("pipeline").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(page)


def _content_security_source(script: str) -> str:
    """What lets this script run and no other, were one ever to slip into the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _markdown(page: Mapping[str, Any]) -> str:
    mean = page["mean_dice"]
    headline = f"Mean Dice: –, {page['no_dice']}."
    if mean is not None:
        headline = (
            f"Mean Dice **{mean:.4f}** over {_counted(page['averaged'], 'class', 'classes')} "
            f"and {_counted(page['held_out'], 'held-out case')} (split {_plain(page['split'])})."
        )
    parts = [f"# segflow run {_plain(page['run_name'])}", page["outcome"]["sentence"], headline]
    parts += [f"Note: {_plain(warning)}" for warning in page["warnings"]]
    if page["classes"]:
        head = ["class", "Dice", "IoU", "precision", "recall", "cases", "empty"]
        keys = ("dice", "iou", "precision", "recall")
        rows = [
            [c["name"], *(_dice(c[k]) for k in keys), _count(c["n_cases"]), _count(c["n_empty"])]
            for c in page["classes"]
        ]
        parts += ["## Dice per class", _table(head, rows, numbers=True), _plain(page["rules"])]
    if page["quarantined"]:
        rows = [[r.case, r.stage, r.reason, r.remedy] for r in page["quarantined"]]
        head = ["case", "stage", "reason", "remedy"]
        parts += ["## Quarantined cases", _table(head, rows, numbers=False)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool) -> str:
    """A Markdown table whose columns line up in a terminal."""
    lines = [list(head), *([_plain(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = [numbers and i > 0 for i in range(len(head))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    padded = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _plain(text: str) -> str:
    """Text that neither Markdown, HTML nor a terminal takes for a command."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return re.sub(r"([\\|<`])", r"\\\1", shown)
