"""Masks + truth → exact counts, or sums of errors → Dice or R², and the rest."""

from pipeline.score.settings import ScoreSettings
from pipeline.score.stage import score
from pipeline.score.words import headline

__all__ = ["ScoreSettings", "headline", "score"]
