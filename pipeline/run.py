"""A run: its settings, its folder, and its stages in order."""

from __future__ import annotations

import difflib
import fcntl
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import NothingUsableError, SegflowError, SettingsError
from pipeline.execute import ExecuteSettings, Progress, silent
from pipeline.ingest import IngestSettings, ingest, ingest_images
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import discover_images
from pipeline.io.files import digest, write_atomic
from pipeline.io.location import is_remote, locate
from pipeline.io.manifest import QuarantineRow, read_manifest, read_quarantine
from pipeline.model_file import read_card
from pipeline.patches import PatchSettings, patch
from pipeline.plan import PlanSettings, plan
from pipeline.plan_file import read_plan
from pipeline.predict import CaseToPredict, PredictSettings, predict, predict_cases
from pipeline.report import ReportSettings, report
from pipeline.score import ScoreSettings, score
from pipeline.tiled import best_processor
from pipeline.training import TrainSettings, train

Stage = Literal["ingest", "plan", "patch", "train", "predict", "score", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class RunSettings(BaseModel):
    """One run, whole: what run.yaml holds and what the flows take as parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The run's name, in stores and reports: letters, digits, ``.``, ``_`` and ``-``."""
    run_dir: str | None = None
    """Folder of all that the run makes; null: ``runs/<name>``."""
    data: DataSettings
    """Where the images are and what their masks mean."""
    ingest: IngestSettings = IngestSettings()
    """How cases are taken in and split."""
    plan: PlanSettings = PlanSettings()
    """Decisions taken out of the planner's hands."""
    patch: PatchSettings = PatchSettings()
    """How training patches are cut."""
    train: TrainSettings = TrainSettings()
    """How long and by what recipe the network is trained."""
    predict: PredictSettings = PredictSettings()
    """Which cases are predicted, and in what tiles."""
    score: ScoreSettings = ScoreSettings()
    """What is scored."""
    report: ReportSettings = ReportSettings()
    """What the report shows."""
    execute: ExecuteSettings = ExecuteSettings()
    """Where tasks run."""

    @model_validator(mode="after")
    def _locatable(self) -> RunSettings:
        if "://" in (self.run_dir or ""):
            raise ValueError(
                f"run_dir: {self.run_dir} is a URL: a run's folder is local, because files grow "
                "in it; ingest.store and data.root may be URLs"
            )
        try:
            for key, place in (("data.root", self.data.root), ("ingest.store", self.ingest.store)):
                locate(place or ".", key)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def dir(self) -> RunDir:
        """The run's folder."""
        store = self.ingest.store
        volumes = None if store is None else locate(store, "ingest.store")
        return RunDir(Path(self.run_dir or f"runs/{self.name}"), volumes)


@dataclass(frozen=True)
class RunDir:
    """Every path of a run."""

    root: Path
    """The run's folder."""
    shared_volumes: Path | None = None
    """Folder of the volume stores where it lies outside the run."""

    @property
    def settings(self) -> Path:
        """Resolved settings."""
        return self.root / "run.yaml"

    @property
    def manifest(self) -> Path:
        """One row per case."""
        return self.root / "manifest.jsonl"

    @property
    def quarantine(self) -> Path:
        """Refused cases."""
        return self.root / "quarantine.jsonl"

    @property
    def check(self) -> Path:
        """What ``segflow check`` found."""
        return self.root / "check.json"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.json"

    @property
    def volumes(self) -> Path:
        """Folder of the volume stores."""
        return self.shared_volumes or self.root / "volumes"

    @property
    def inputs(self) -> Path:
        """Folder of the volume stores made for ``segflow predict --input``."""
        return self.root / "inputs"

    @property
    def patches(self) -> Path:
        """The patch store."""
        return self.root / "patches.zarr"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and the training log."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """Weights of the best checkpoint; its sidecar stands beside it."""
        return self.checkpoints / "best.pt"

    @property
    def predictions(self) -> Path:
        """Folder of the mask stores, one folder per model."""
        return self.root / "predictions"

    @property
    def ledger(self) -> Path:
        """Folder of the records of finished units."""
        return self.root / "ledger"

    @property
    def scores(self) -> Path:
        """The scores; ``scores.csv`` stands beside it."""
        return self.root / "scores.json"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.root / "report" / "index.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second segflow out of the run while this one works on it.

        The lock is the operating system's: it ends with the process, however that ends.

        Raises:
            SegflowError: Another process holds it.
        """
        with _locked(self.root, "run_dir"):
            yield

    @contextmanager
    def volumes_locked(self) -> Iterator[None]:
        """The same for volume stores that runs share; an object store knows no locks."""
        if self.shared_volumes is None or is_remote(self.shared_volumes):
            yield
            return
        with _locked(self.shared_volumes, "ingest.store"):
            yield


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise SettingsError(
            f"{key} {folder} cannot be written ({error.strerror}): choose another"
        ) from error
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SegflowError(
                f"another segflow is at work in {folder}: wait for it, or stop it"
            ) from error
        yield


@dataclass(frozen=True)
class Outcome:
    """How a run stands."""

    complete: int
    """Cases whose stores are complete."""
    quarantined: int
    """Refused cases."""

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete with quarantined cases."""
        return 3 if self.quarantined else 0


def outcome(run: RunDir) -> Outcome:
    """Count complete and refused cases of a run."""
    refused = {row.case for row in read_quarantine(run.quarantine)}
    complete = {row.id for row in read_manifest(run.manifest) if row.status == "complete"}
    return Outcome(len(complete - refused), len(refused))


class _Loader(yaml.SafeLoader):
    """YAML in which ``on``, ``off``, ``yes`` and ``no`` are words, as in YAML 1.2.

    ``execute.on`` is a key that YAML 1.1 would read as ``true``.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Read run.yaml and apply ``key.sub=value`` overrides.

    Args:
        path: The YAML file.
        overrides: As given with ``--set``; values are YAML.

    Raises:
        SettingsError: The file is absent or no YAML, or a key or value is wrong; the message
            names the full key and the nearest valid one.
    """
    try:
        value = _yaml(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): make one with `segflow init`"
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds no settings: make one with `segflow init`")
    for override in overrides:
        _apply(value, override)
    return parse_settings(value)


def _apply(value: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(
            f"--set {override}: give key.sub=value, for example train.max_minutes=10"
        )
    *parents, last = key.split(".")
    for parent in parents:
        inner = value.get(parent)
        if inner is None:
            inner = value[parent] = {}
        if not isinstance(inner, dict):
            raise SettingsError(f"--set {override}: {parent} holds a value, not settings")
        value = inner
    try:
        value[last] = _yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override}: {text!r} is not a YAML value") from error


def parse_settings(value: Mapping[str, Any]) -> RunSettings:
    """Check settings given as nested mappings.

    Raises:
        SettingsError: A key or value is wrong.
    """
    try:
        return RunSettings.model_validate(value)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(e) for e in error.errors())) from error


def _explain(error: Any) -> str:
    place = [str(p) for p in error["loc"]]
    key = ".".join(place)
    if error["type"] != "extra_forbidden":
        met = error.get("input")
        shown = f" (given: {met!r})" if isinstance(met, str | int | float | bool) else ""
        return f"{key}: {error['msg'].removeprefix('Value error, ')}{shown}"
    known = _fields(place[:-1])
    close = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.4)
    nearest = ".".join([*place[:-1], close[0]]) if close else None
    hint = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(known)}"
    return f"{key}: there is no such setting; {hint}"


def _fields(place: Sequence[str]) -> list[str]:
    """Names of the settings at a place in the tree."""
    model: Any = RunSettings
    for part in place:
        if part.isdigit():
            continue
        annotation = model.model_fields[part].annotation
        model = next(
            (a for a in [annotation, *get_args(annotation)] if hasattr(a, "model_fields")), model
        )
    return list(model.model_fields)


def dump_settings(settings: RunSettings) -> str:
    """Settings as YAML, every value written out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def run_stage(stage: Stage, settings: RunSettings, progress: Progress = silent) -> str:
    """Run one stage, or find that nothing is left to do.

    Args:
        stage: Its name.
        settings: The run's.
        progress: Told of every finished task.

    Returns:
        One line that says what the stage has made.

    Raises:
        SegflowError: The stage cannot end well; the message says what to do.
    """
    with settings.dir.locked():
        write_atomic(settings.dir.settings, dump_settings(settings).encode())
        return WORK[stage](settings, settings.dir, progress)


def _ingest(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    with run.volumes_locked():
        rows = ingest(
            settings.data,
            settings.ingest,
            settings.execute,
            manifest=run.manifest,
            quarantine=run.quarantine,
            volumes=run.volumes,
            progress=progress,
        )
    splits = {
        s: sum(r.split == s and r.status == "complete" for r in rows)
        for s in ("train", "val", "test", "unlabelled")
    }
    parts = ", ".join(f"{n} {split}" for split, n in splits.items() if n)
    if not splits[settings.score.held_out]:
        parts += f"; none is held out as {settings.score.held_out}, so nothing will be scored"
    return f"{sum(splits.values())} cases ({parts}), {outcome(run).quarantined} quarantined"


def _plan(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    processor = "cpu" if best_processor(2).device == "cpu" else "cuda"
    made = plan(
        settings.data,
        settings.plan,
        manifest=run.manifest,
        volumes=run.volumes,
        path=run.plan,
        processor=processor,
    )
    progress("plan", 1, 1, "")
    return f"{made.ndim}-D, patches of {made.patch_shape}, {made.batch_size} a step"


def _patch(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    patch(
        read_plan(run.plan),
        settings.patch,
        settings.execute,
        manifest=run.manifest,
        volumes=run.volumes,
        final=run.patches,
        ledger=run.ledger / "patch.jsonl",
        progress=progress,
    )
    return str(run.patches)


def _train(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    card = train(
        read_plan(run.plan),
        settings.train,
        manifest=run.manifest,
        volumes=run.volumes,
        patches=run.patches,
        checkpoints=run.checkpoints,
        progress=progress,
    )
    dice = card.training["val_dice"]
    shown = "no validation case" if dice is None else f"validation Dice {dice:.4f}"
    return f"model {card.model_id}, {card.training['steps']} steps, {shown}"


def _predict(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    masks = predict(
        settings.predict,
        settings.execute,
        run_name=settings.name,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        output=run.predictions,
        ledger=run.ledger,
        progress=progress,
    )
    return f"{len(masks)} masks in {masks[0].parent}"


def _score(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    scores = score(
        settings.score,
        settings.execute,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        predictions=run.predictions,
        path=run.scores,
        progress=progress,
    )
    dice = scores["mean"]["dice"]
    return "no held-out case to score" if dice is None else f"mean Dice {dice:.4f}"


def _report(settings: RunSettings, run: RunDir, progress: Progress) -> str:
    if not run.manifest.exists():
        raise NothingUsableError(f"{run.root} holds nothing to report: run `segflow run` first")
    report(
        settings.report,
        run_name=settings.name,
        model=run.model,
        manifest=run.manifest,
        quarantine=run.quarantine,
        volumes=run.volumes,
        predictions=run.predictions,
        scores=run.scores,
        training_log=run.checkpoints / "log.jsonl",
        prediction_record=run.ledger / "predict.json",
        settings_text=dump_settings(settings),
        path=run.report,
    )
    progress("report", 1, 1, "")
    return str(run.report)


@dataclass(frozen=True)
class InputsOutcome:
    """What became of images given to ``segflow predict --input``."""

    masks: list[Path]
    """Mask stores, one per image."""
    refused: list[QuarantineRow]
    """Images that got none."""

    @property
    def exit_code(self) -> int:
        """0 complete, 3 complete with refused images, 1 no mask at all."""
        return 0 if not self.refused else 3 if self.masks else 1


def predict_inputs(
    settings: RunSettings,
    inputs: Sequence[Path],
    output: Path | None,
    progress: Progress = silent,
) -> InputsOutcome:
    """Predict images that are not of the run's dataset, with the run's model.

    Args:
        settings: The run's.
        inputs: Image files, or folders of them; paths or URLs.
        output: Folder for the masks, ``<output>/<case>.zarr``; None: ``inputs`` beside the run's
            own predictions, so that a new image never takes the place of a case's mask.
        progress: Told of every finished task.

    Raises:
        ModelError: The run has no model yet.
        SettingsError: An input does not exist.
    """
    run = settings.dir
    card = read_card(run.model)
    folder = output or run.predictions / card.model_id / "inputs"
    with run.locked():
        stores, refused = ingest_images(
            discover_images(inputs, settings.data),
            settings.data,
            settings.execute,
            volumes=run.inputs,
            progress=progress,
        )
        cases = [CaseToPredict(c, store, folder / f"{c}.zarr") for c, store in stores.items()]
        if not cases:
            return InputsOutcome([], refused)
        done = predict_cases(
            cases,
            settings.predict,
            settings.execute,
            run_name=settings.name,
            model=run.model,
            # One record per output folder: a piece done there is not done here.
            ledger=run.ledger / "inputs" / digest(str(folder.resolve())),
            progress=progress,
        )
    return InputsOutcome(list(done.masks), [*refused, *done.refused])


WORK: dict[Stage, Callable[[RunSettings, RunDir, Progress], str]] = {
    "ingest": _ingest,
    "plan": _plan,
    "patch": _patch,
    "train": _train,
    "predict": _predict,
    "score": _score,
    "report": _report,
}
