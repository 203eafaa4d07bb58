"""Scores → one page that says how the run went: tables, curves, pictures, provenance."""

from pipeline.report.stage import ReportSettings, report

__all__ = ["ReportSettings", "report"]
