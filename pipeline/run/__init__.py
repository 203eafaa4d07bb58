"""A run: its settings, its folder, and its stages in order."""

from pipeline.run.folder import RunDir
from pipeline.run.inputs import InputsOutcome, predict_inputs
from pipeline.run.settings import RunSettings
from pipeline.run.settings_file import dump_settings, load_settings, parse_settings
from pipeline.run.stages import STAGES, Outcome, Stage, foresee, outcome, run_stage

__all__ = [
    "STAGES",
    "InputsOutcome",
    "Outcome",
    "RunDir",
    "RunSettings",
    "Stage",
    "dump_settings",
    "foresee",
    "load_settings",
    "outcome",
    "parse_settings",
    "predict_inputs",
    "run_stage",
]
