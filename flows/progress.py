"""Progress, thinned to what a log can bear."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.execute import Progress

LEAST_S = 2.0
MOST_S = 30.0
STEP = 0.1
REFUSED = ": quarantined"
"""What stages write in the note of a refused case."""


@dataclass
class Thinned:
    """A Progress that passes on few of its calls.

    The first and the last of a stage always pass, and so does every refused case; in between at
    most one in two seconds, once per tenth of the stage or per half minute.
    """

    told: Progress
    """Who is told."""
    clock: Callable[[], float] = time.monotonic
    """Seconds."""
    _stage: str = ""
    _time: float = 0.0
    _done: int = 0

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """Pass a call on, or drop it."""
        now = self.clock()
        waited = now - self._time
        further = total > 0 and done - self._done >= STEP * total
        due = waited >= LEAST_S and (further or waited >= MOST_S)
        edge = stage != self._stage or (total > 0 and done >= total)
        if not (due or edge or REFUSED in note):
            return
        if due or edge:
            self._stage, self._time, self._done = stage, now, done
        self.told(stage, done, total, note)


def as_line(stage: str, done: int, total: int, note: str) -> str:
    """A call of Progress as a line.

    Example:
        >>> as_line("ingest", 3, 40, "case_003")
        'ingest 3/40 case_003'
    """
    return f"{stage} {done}/{total or '?'} {note}".rstrip()
