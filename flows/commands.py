"""What the commands do. Torch and Prefect are imported by those that need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.console import COMPLETE, FAILED, QUARANTINED, Console
from flows.options import ExportTo, StageName
from pipeline.errors import NothingUsableError, SettingsError

if TYPE_CHECKING:
    from pipeline.run import RunDir, RunSettings
    from pipeline.run.night import Step

MOST_ROWS = 50
"""Rows a printed table shows of refused cases; all of them stand in a file."""


def demo(kind: Literal["volume", "scene"], folder: Path, console: Console) -> None:
    """Make a dataset, run every stage, and say how to open a mask."""
    from pipeline.demo import make_demo
    from pipeline.io.files import read_json

    console.line(f"making a synthetic {kind} dataset in {folder}")
    settings = make_demo(kind, folder)
    _run(settings, "ingest", "report", console)
    model = read_json(settings.dir.model.with_suffix(".json"))["model_id"]
    mask = min((settings.dir.predictions / model).glob("*.zarr"))
    console.result |= {"mask": str(mask)}
    console.line(f"masks: {mask.parent}\nreport: {settings.dir.report}\nto open a mask:")
    console.line(f"  python -c \"import zarr; print(zarr.open_array('{mask}/0/mask')[:].shape)\"")
    console.line(
        f"  python -c \"import xarray; print(xarray.open_zarr('{mask}', group='0', "
        "decode_coords='all'))\""
    )


def init(source: str, output: Path, force: bool, console: Console) -> None:
    """Write a run.yaml for a dataset."""
    from pipeline.init import init as recognise

    if output.exists() and not force:
        raise SettingsError(f"{output} exists: name another with -o, or overwrite it with --force")
    found = recognise(source, output)
    for line in found.summary:
        console.line(line)
    console.end(COMPLETE, f"complete: {output}; next: segflow check {output}", settings=str(output))


def check(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Read every case, say what is wrong or odd, write check.json."""
    from flows.findings import print_dataset, print_findings
    from flows.summary import counted
    from pipeline.ingest import check as read_all
    from pipeline.io.files import write_json
    from pipeline.run import load_settings

    settings = load_settings(path, overrides)
    run = settings.dir
    found = read_all(
        settings.data,
        settings.ingest,
        settings.execute,
        manifest=run.manifest,
        progress=console.progress,
    )
    console.stop_bars()
    value = found.to_json()
    write_json(run.check, value)
    console.result |= {"check": str(run.check), **value}
    print_findings(found.findings, console)
    print_dataset(value, console)
    counts = value["counts"]
    if not counts["usable"]:
        whole = f"none of {counted(counts['cases'])} is usable: see {run.check}"
        raise NothingUsableError(whole if counts["cases"] else _no_case(settings))
    warned = f", {counted(counts['warning'])} with warnings" if counts["warning"] else ""
    if counts["refused"]:
        odd = f"{counted(counts['refused'])} of {counts['cases']} would be quarantined"
        console.end(QUARANTINED, f"complete, {odd}{warned}: see {run.check}")
    else:
        last = f"complete: {counted(counts['usable'])} usable{warned}; see {run.check}"
        console.end(COMPLETE, last)


def _no_case(settings: RunSettings) -> str:
    return f"{settings.data.root} holds no case: check data.layout, data.images and data.masks"


def _refused_table(
    rows: Sequence[tuple[str, str, str]], whole: Path | None, console: Console
) -> None:
    if not rows:
        return
    from flows.findings import folded

    shown = folded(rows, "cases")
    console.table(f"{len(rows)} refused", ("case", "reason", "what to do"), shown[:MOST_ROWS])
    if len(shown) > MOST_ROWS:
        console.line(f"and {len(shown) - MOST_ROWS} reasons more: see {whole or '--json'}")


def run(
    path: Path, overrides: Sequence[str], first: StageName, last: StageName, console: Console
) -> None:
    """Run the end-to-end flow in this process."""
    from pipeline.run import load_settings

    _run(load_settings(path, overrides), first, last, console)


def _run(settings: RunSettings, first: StageName, last: StageName, console: Console) -> None:
    from flows.inprocess import run_flow

    run_flow(settings, first, last, console)
    if last in ("score", "report"):
        _score_table(settings.dir, console)
    _end(settings.dir, last, console)


def stage(name: StageName, path: Path, overrides: Sequence[str], console: Console) -> None:
    """Run one stage, without Prefect."""
    from pipeline.run import load_settings, run_stage

    settings = load_settings(path, overrides)
    console.ended(name, run_stage(name, settings, console.progress))
    if name == "score":
        _score_table(settings.dir, console)
    _end(settings.dir, name, console)


def _score_table(run: RunDir, console: Console) -> None:
    from flows.summary import score_table
    from pipeline.io.files import read_json

    scores = read_json(run.scores)
    console.table("Held-out cases", *score_table(scores))
    shown = ("mean", "classes", "targets")
    console.result["scores"] = {key: scores[key] for key in shown if key in scores}


def _end(run: RunDir, last: StageName, console: Console) -> None:
    from flows.summary import verdict
    from pipeline.run import outcome

    found = outcome(run)
    console.end(
        found.exit_code,
        verdict(run, last),
        complete=found.complete,
        quarantined=found.quarantined,
        run_dir=str(run.root),
        report=str(run.report) if last == "report" else None,
    )


def predict_inputs(
    path: Path,
    overrides: Sequence[str],
    inputs: Sequence[str],
    output: Path | None,
    console: Console,
) -> None:
    """Predict new images with the run's model."""
    from flows.summary import counted
    from pipeline.io.location import locate
    from pipeline.run import load_settings
    from pipeline.run import predict_inputs as work

    settings = load_settings(path, overrides)
    places = [locate(place, "--input") for place in inputs]
    found = work(settings, places, output, console.progress)
    console.stop_bars()
    _refused_table([(r.case, r.reason, r.remedy) for r in found.refused], None, console)
    for mask in found.masks:
        console.line(str(mask))
    if not found.masks:
        first = found.refused[0]
        raise NothingUsableError(
            f"{counted(len(found.refused), 'input')} refused, no mask made; {first.case}: "
            f"{first.reason} {first.remedy}"
        )
    where = f"{counted(len(found.masks), 'mask')} in {found.masks[0].parent}"
    last = f"complete: {where}"
    if found.refused:
        last = f"complete, {counted(len(found.refused))} quarantined, listed above; {where}"
    console.end(
        found.exit_code,
        last,
        masks=[str(mask) for mask in found.masks],
        refused=[{"case": r.case, "reason": r.reason, "remedy": r.remedy} for r in found.refused],
    )


def export(
    store: str,
    out: Path,
    to: ExportTo,
    places: tuple[Path | None, Path | None, Path | None],
    nodata: Literal["background", "keep"],
    console: Console,
) -> None:
    """Export one mask, those of a folder, or those of a run's model."""
    from pipeline.export import ExportSettings
    from pipeline.export import export as work
    from pipeline.io.location import locate
    from pipeline.report.words import counted

    source, volumes, codes = places
    settings = ExportSettings(to, nodata, source, volumes, codes)
    place, execute = locate(store, "STORE"), None
    if place.suffix in (".yaml", ".yml"):
        from pipeline.run.exports import masks_of

        place, settings, execute = masks_of(place, settings)
    found = work(place, out, settings, execute, console.progress)
    console.stop_bars()
    _refused_table([(r.case, r.reason, r.remedy) for r in found.refused], None, console)
    where = f"{counted(len(found.files), 'file')} in {found.files[0].parent}"
    last = f"complete: {where}"
    if found.refused:
        last = f"complete, {counted(len(found.refused), 'mask')} refused, listed above; {where}"
    console.end(
        found.exit_code,
        last,
        files=[str(path) for path in found.files],
        refused=[{"case": r.case, "reason": r.reason, "remedy": r.remedy} for r in found.refused],
    )


def nightly(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Run a night here, without Prefect."""
    _night(path, overrides, "ingest", console)


def publish(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Publish the masks that are there, as a night does."""
    _night(path, overrides, "compare", console)


def _night(path: Path, overrides: Sequence[str], first: Step, console: Console) -> None:
    from pipeline.run import load_settings, outcome
    from pipeline.run.night import run_night

    settings = load_settings(path, overrides)
    night = run_night(settings, console.progress, console.ended, first)
    run = settings.dir
    if night.publication is not None and night.publication.is_new and night.scores is not None:
        _score_table(run, console)
    for flag in night.drift:
        console.line(f"drift: {flag.sentence}")
    fresh = [(r.case, r.reason, r.remedy) for r in night.newly_refused]
    _refused_table(fresh, run.quarantine, console)
    console.end(
        outcome(run).exit_code,
        f"complete: {night.sentence()}; masks: {run.published / 'current'}",
        night=night.to_json(),
        published=str(run.published / "current"),
    )


def retrain(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Train anew and judge what came of it."""
    from pipeline.run import load_settings
    from pipeline.run.retraining import retrain as work

    settings = load_settings(path, overrides)
    decision = work(settings, console.progress, console.ended)
    console.end(COMPLETE, f"complete: {decision.sentence}", decision=asdict(decision))


def promote(path: Path, overrides: Sequence[str], anyway: bool, console: Console) -> None:
    """Judge the model that was trained last."""
    from pipeline.run import load_settings
    from pipeline.run.retraining import judge

    decision = judge(load_settings(path, overrides), console.progress, anyway=anyway)
    console.stop_bars()
    console.end(COMPLETE, f"complete: {decision.sentence}", decision=asdict(decision))


def deploy(
    path: Path,
    overrides: Sequence[str],
    crons: tuple[str | None, str | None],
    timezone: str,
    pool: str,
    console: Console,
) -> None:
    """Register the nights of a dataset, and its retraining where it has a time."""
    from flows.inprocess import answered, prepare
    from pipeline.run import load_settings

    settings = load_settings(path, overrides)
    prepare(console.debug)
    from flows.deploy import SHOWN_NIGHTS, Timetable, advice, register

    nights = Timetable(crons[0], timezone)
    retrainings = Timetable(crons[1], timezone)
    times = nights.times(SHOWN_NIGHTS)
    retrainings.times(1)
    made = [answered(lambda: register("nightly", settings, nights, pool))]
    if crons[1] is not None:
        made.append(answered(lambda: register("retrain", settings, retrainings, pool)))
    for line in advice(settings, nights):
        console.line(f"note: {line}")
    if times:
        console.line("next: " + ", ".join(f"{when:%a %d %b %H:%M %Z}" for when in times))
    console.line(f"to run one now: prefect deployment run {made[0]} --watch")
    console.end(COMPLETE, f"complete: {' and '.join(made)} registered", deployments=made)


def foresee(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Tell what predicting the run's cases would take."""
    from flows.summary import counted, outlook_rows
    from pipeline.run import foresee as work
    from pipeline.run import load_settings

    found = work(load_settings(path, overrides))
    console.table("Prediction, foreseen", ("what", "value"), outlook_rows(found))
    console.result["outlook"] = found.to_json()
    console.end(COMPLETE, f"complete: nothing written, {counted(found.cases)} to predict")


def status(path: Path, overrides: Sequence[str], console: Console) -> None:
    """Print what is done, stage by stage."""
    from flows.status import read_night, read_status
    from flows.summary import verdict
    from pipeline.run import load_settings, outcome

    settings = load_settings(path, overrides)
    stages = read_status(settings)
    rows = [(s.stage, s.state, s.detail) for s in stages]
    console.table(f"{settings.name} in {settings.dir.root}", ("stage", "state", ""), rows)
    console.result["stages"] = [
        {"stage": stage, "state": state, "detail": detail} for stage, state, detail in rows
    ]
    night = read_night(settings.dir)
    for line in night.lines if night is not None else ():
        console.line(line)
    console.result["night"] = asdict(night) if night is not None else None
    waiting = next((s for s in stages if s.state != "done"), None)
    console.result["done"] = waiting is None
    if waiting is None:
        console.end(outcome(settings.dir).exit_code, verdict(settings.dir, "report"))
    else:
        last = f"{waiting.stage} is {waiting.state}: segflow run {path}"
        console.end(outcome(settings.dir).exit_code, last)


def doctor(console: Console) -> None:
    """Print what was found of this machine, each with its remedy."""
    from flows.doctor import examine
    from flows.summary import counted

    found = examine()
    rows = [(f.level, f.what, f.met, f.remedy) for f in found]
    console.table("segflow doctor", ("", "what", "met", "what to do"), rows)
    console.result["findings"] = [
        {"level": level, "what": what, "met": met, "remedy": remedy}
        for level, what, met, remedy in rows
    ]
    bad = [f.what for f in found if f.level == "fail"]
    if bad:
        console.end(FAILED, f"failed: {', '.join(bad)}: see what to do above")
    else:
        warned = counted(sum(f.level == "warn" for f in found), "warning")
        console.end(COMPLETE, f"complete: this machine is fit; {warned}")


def models(names: Sequence[str], ndim: Literal[2, 3] | None, console: Console) -> None:
    """Print networks as they are measured, then losses, optimisers and schedules."""
    from flows.models_list import COLUMNS, as_json, choices, measured, row

    axes: tuple[Literal[2, 3], ...] = (2, 3) if ndim is None else (ndim,)
    found = []
    for entry in measured(names, axes):
        found.append(entry)
        console.line(f"measured {entry.name}, {entry.ndim}-D")
    console.table("plan.network", COLUMNS, [row(entry) for entry in found])
    kinds = choices()
    for name, place in (
        ("loss", "plan.loss"),
        ("optimiser", "train.optimiser"),
        ("schedule", "train.schedule"),
    ):
        console.table(place, ("kind", "what it is"), list(kinds[name].items()))
    console.end(
        COMPLETE,
        f"complete: {len(found)} networks; take one with --set plan.network=NAME",
        networks=[as_json(entry) for entry in found],
        **kinds,
    )
