"""A run, whole, as values: the stages' settings composed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.drift import DriftSettings
from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings
from pipeline.io.dataset import DataSettings
from pipeline.io.location import locate
from pipeline.patches import PatchSettings
from pipeline.planning import PlanSettings
from pipeline.predict import PredictSettings
from pipeline.promotion import PromoteSettings
from pipeline.publish import PublishSettings
from pipeline.report import ReportSettings
from pipeline.run.folder import RunDir
from pipeline.score import ScoreSettings
from pipeline.training import TrainSettings


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
    publish: PublishSettings = PublishSettings()
    """Versions of the masks that nights publish."""
    drift: DriftSettings = DriftSettings()
    """When a night says that its cases are not like those of the training."""
    promote: PromoteSettings = PromoteSettings()
    """When a newly trained model serves the nights."""
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
            if "://" in (self.publish.folder or ""):
                raise SettingsError(
                    f"publish.folder: {self.publish.folder} is a URL: versions are folders of links"
                )
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _scored_classes(self) -> RunSettings:
        names = {c.name for c in self.data.classes}
        for key, members in self.score.named_classes.items():
            if names and (strange := [name for name in members if name not in names]):
                raise ValueError(
                    f"{key} names {', '.join(strange)}; data.classes has {', '.join(sorted(names))}"
                )
        return self

    @property
    def dir(self) -> RunDir:
        """The run's folder."""
        store = self.ingest.store
        volumes = None if store is None else locate(store, "ingest.store")
        published = None if self.publish.folder is None else Path(self.publish.folder)
        return RunDir(Path(self.run_dir or f"runs/{self.name}"), volumes, published)

    def anchored(self) -> RunSettings:
        """The same run with absolute paths: it means the same wherever it is read."""
        change: dict[str, BaseModel] = {
            "data": self.data.model_copy(update={"root": _absolute(self.data.root)})
        }
        store, folder, start = self.ingest.store, self.publish.folder, self.train.start_from
        if store is not None:
            change["ingest"] = self.ingest.model_copy(update={"store": _absolute(store)})
        if folder is not None:
            change["publish"] = self.publish.model_copy(update={"folder": _absolute(folder)})
        if start is not None:
            change["train"] = self.train.model_copy(update={"start_from": start.absolute()})
        return self.model_copy(update={**change, "run_dir": str(self.dir.root.absolute())})


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
