"""What is done, by unit: the record that makes a stage resumable.

A chunk that equals its fill value is not stored, so the files of a store cannot tell done from
never tried. The ledger can. It lies beside the stores, never inside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.io.files import read_jsonl

FAILED = "failed"
"""State of a unit that was tried and is not done."""


class Ledger:
    """An append-only record of finished units, one JSON object per line.

    One process writes it: the one that plans a stage and receives the rows of its tasks.

    Args:
        path: The record's file; created with its first unit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = {row["unit"]: row for row in read_jsonl(path)}
        self._mended = False

    def done(self, unit: str, key: str) -> dict[str, Any] | None:
        """The row recorded for a unit, if it was done for the same key; else None."""
        row = self._rows.get(unit)
        if row is None or row["key"] != key or row.get("state") == FAILED:
            return None
        return row

    def record(self, unit: str, key: str, row: Mapping[str, Any]) -> None:
        """Note that a unit is done, or that it failed. On disk when this returns."""
        entry = {"unit": unit, "key": key, **row}
        if not self._mended:
            self._drop_torn_line()
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows[unit] = entry

    def forget(self) -> None:
        """Start anew: nothing is done."""
        self.path.unlink(missing_ok=True)
        self._rows = {}

    def _drop_torn_line(self) -> None:
        # A crash may have left half a line without its newline; the next append must not join it.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                os.truncate(self.path, content.rfind(b"\n") + 1)
        self._mended = True
