"""Stages run serially on the usual places of a folder, for tests of what they give."""

from pathlib import Path
from typing import Any

from pipeline.execute import ExecuteSettings
from pipeline.predict import PredictSettings, predict
from pipeline.score import ScoreSettings, score

SERIAL = ExecuteSettings(on="serial")


def _places(folder: Path) -> dict[str, Path]:
    return {
        "manifest": folder / "manifest.jsonl",
        "quarantine": folder / "quarantine.jsonl",
        "volumes": folder / "volumes",
    }


def predicted(folder: Path, model: Path, **settings: Any) -> list[Path]:
    """The masks that a model gives of the folder's cases."""
    return predict(
        PredictSettings(**settings),
        SERIAL,
        run_name="test",
        model=model,
        output=folder / "predictions",
        ledger=folder / "ledger",
        **_places(folder),
    )


def scored(folder: Path, **settings: Any) -> dict[str, Any]:
    """The scores of the folder's masks, by ``best.pt``."""
    return score(
        ScoreSettings(**settings),
        SERIAL,
        model=folder / "best.pt",
        predictions=folder / "predictions",
        ledger=folder / "ledger",
        path=folder / "scores.json",
        **_places(folder),
    )
