"""Two runs' scores → where and by how much the second differs from the first, and how surely."""

from pipeline.comparison.compare import Change, Comparison, compare
from pipeline.comparison.differences import Difference
from pipeline.comparison.figures import FIGURES, Figure
from pipeline.comparison.words import sentence

__all__ = ["FIGURES", "Change", "Comparison", "Difference", "Figure", "compare", "sentence"]
