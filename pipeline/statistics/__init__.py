"""Statistics of a case, gathered box by box while it is ingested."""

from pipeline.statistics.case import CaseStatistics
from pipeline.statistics.histogram import PERCENTILES
from pipeline.statistics.pooled import Pooled
from pipeline.statistics.positions import POSITIONS

__all__ = ["PERCENTILES", "POSITIONS", "CaseStatistics", "Pooled"]
