"""Mask stores → files in the formats of the field: scans, scenes, polygons, pictures, tables."""

from pipeline.export.exporting import Exported, export, plan_export
from pipeline.export.formats import FORMATS, FormatName
from pipeline.export.settings import ExportSettings

__all__ = ["FORMATS", "ExportSettings", "Exported", "FormatName", "export", "plan_export"]
