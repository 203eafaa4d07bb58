"""New cases against the training cases → where they do not look alike, in plain words."""

from pipeline.drift.flag import Flag
from pipeline.drift.quantities import measure
from pipeline.drift.reference import Reference
from pipeline.drift.settings import DriftSettings
from pipeline.drift.stage import find_drift

__all__ = ["DriftSettings", "Flag", "Reference", "find_drift", "measure"]
