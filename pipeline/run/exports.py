"""What ``segflow export`` takes from a run: its masks, its volume stores, its dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.execute import ExecuteSettings
from pipeline.export import ExportSettings
from pipeline.io.location import is_remote, locate
from pipeline.model_file import read_card
from pipeline.promotion import serving_card
from pipeline.run.settings_file import load_settings


def masks_of(path: Path, settings: ExportSettings) -> tuple[Path, ExportSettings, ExecuteSettings]:
    """The masks of a run by the model that serves it, or else by the one trained last.

    Args:
        path: The run's run.yaml.
        settings: How they are exported.

    Returns:
        Folder of the masks; the settings, in which places that were not named are the run's; and
        where tasks run.

    Raises:
        SettingsError: run.yaml is wrong.
        ModelError: The run has no model yet.
    """
    run = load_settings(path)
    root = locate(run.data.root, "data.root")
    card = serving_card(run.dir.promoted) or read_card(run.dir.model)
    placed = replace(
        settings,
        source=settings.source or (None if is_remote(root) else root),
        volumes=settings.volumes or run.dir.volumes,
    )
    return run.dir.predictions / card.model_id, placed, run.execute
