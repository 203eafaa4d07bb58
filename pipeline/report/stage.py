"""Gathers plain values from the files of a run, lays them out, and writes the page.

Whatever is missing on disk is said on the page; a report is written in any case.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from pipeline.io.files import read_json, read_jsonl, write_atomic
from pipeline.io.manifest import read_manifest, read_quarantine
from pipeline.report.agreement import agreement
from pipeline.report.case_table import case_table
from pipeline.report.distributions import distributions
from pipeline.report.errors import errors
from pipeline.report.facts import Evidence, read_model, read_scores
from pipeline.report.gallery import gallery
from pipeline.report.markdown import markdown
from pipeline.report.nights import nights as told_nights
from pipeline.report.objects import calibration, membranes, objects
from pipeline.report.outcome import outcome
from pipeline.report.pace import pace
from pipeline.report.page import html
from pipeline.report.prediction import prediction
from pipeline.report.provenance import provenance
from pipeline.report.strips import strips
from pipeline.report.tables import tables
from pipeline.report.training import training


class ReportSettings(BaseModel):
    """What the report shows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cases: Annotated[int, Field(ge=0)] = 6
    """Held-out cases shown as pictures: the worst, the median and the best by mean Dice over
    classes, or by mean absolute error, in equal parts."""


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
    training_logs: Mapping[str, Path],
    prediction_record: Path,
    nights: Path | None = None,
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
        training_logs: Rows of training and validation, by fold; none where nothing was trained.
        prediction_record: What the last prediction did; may be absent.
        nights: One row per night; may be absent. None: the run has no nights.
        settings_text: The resolved settings, as YAML.
        path: The page to write.

    Raises:
        StoreError: A file is there and cannot be read.
    """
    evidence = Evidence(
        scores=read_scores(scores),
        scored=scores.exists(),
        card=read_model(model),
        manifest=read_manifest(manifest),
        quarantine=read_quarantine(quarantine),
        logs={name: read_jsonl(path) for name, path in training_logs.items()},
        record=read_json(prediction_record) if prediction_record.exists() else None,
        nights=[] if nights is None else read_jsonl(nights),
        volumes=volumes,
        predictions=predictions,
    )
    page = {
        "run_name": run_name,
        "settings_text": settings_text,
        **outcome(evidence),
        **told_nights(evidence),
        **(_numbers(evidence) if evidence.regression else _classes(evidence)),
        **training(evidence),
        **gallery(evidence, settings.cases),
        **prediction(evidence),
        **pace(evidence),
        **provenance(evidence),
        "files": _files(scores, path),
    }
    write_atomic(path.with_name("report.md"), markdown(page).encode())
    write_atomic(path, html(page).encode())


def _files(scores: Path, page: Path) -> list[tuple[str, str, str]]:
    """Files for programs as the page links to them: name, place from the page on, what it holds."""
    found = [
        (page.with_name("report.md"), "this report for a terminal"),
        (scores, "all figures"),
        (scores.with_suffix(".csv"), "a row per case and class"),
        (scores.with_name(f"{scores.stem}-regions.csv"), "a row per case and region"),
        (scores.with_name(f"{scores.stem}-objects.csv"), "objects, a row per case and class"),
    ]
    # The text is written with the page; scores may be absent.
    there = [(file, what) for file, what in found if file.suffix == ".md" or file.exists()]
    return [
        (file.name, quote(Path(os.path.relpath(file, page.parent)).as_posix()), what)
        for file, what in there
    ]


def _numbers(evidence: Evidence) -> dict[str, Any]:
    """What is said of a regression."""
    return errors(evidence) | distributions(evidence)


def _classes(evidence: Evidence) -> dict[str, Any]:
    """What is said of a segmentation."""
    told = (tables, case_table, strips, agreement, objects, calibration, membranes)
    return {key: value for tell in told for key, value in tell(evidence).items()}
