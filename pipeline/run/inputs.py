"""Masks for images that are not of the run's dataset, with the run's model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.execute import Progress, silent
from pipeline.ingest import ingest_images
from pipeline.io.discover import discover_images
from pipeline.io.files import digest
from pipeline.io.manifest import QuarantineRow
from pipeline.model_file import read_card
from pipeline.predict import CaseToPredict, predict_cases
from pipeline.run.settings import RunSettings


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
