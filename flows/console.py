"""What a command prints: lines, bars, tables, the last line; and the exit code it ends with."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from typing import Any, NoReturn

import typer
from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from flows.progress import REFUSED, Thinned, as_line
from pipeline.errors import SegflowError, SettingsError

COMPLETE, FAILED, WRONG, QUARANTINED, STOPPED = 0, 1, 2, 3, 130
STATUS = {
    COMPLETE: "complete",
    FAILED: "failed",
    WRONG: "wrong settings",
    QUARANTINED: "complete, with quarantined cases",
    STOPPED: "stopped",
}
MAKE_ROOM = "make room, then run the same command again"
PLAIN_WIDTH = 160
"""Columns of a table that goes to a file."""


@dataclass
class Console:
    """Where a command says what it does, to a person and to a machine."""

    json: bool = False
    """One JSON object on stdout at the end; lines for people go to stderr."""
    debug: bool = False
    """Tracebacks are printed."""
    result: dict[str, Any] = field(default_factory=dict)
    """What the JSON object holds besides status, exit code and message."""
    code: int = COMPLETE
    """Exit code."""
    last: str = "complete"
    """Last line."""

    def __post_init__(self) -> None:
        file = sys.stderr if self.json else sys.stdout
        self.screen = Screen(file=file, highlight=False, markup=False, emoji=False)
        if not self.screen.is_terminal:
            self.screen.width = PLAIN_WIDTH
        self._plain = Thinned(lambda *call: self.line(as_line(*call)))
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}
        self._announced = False

    def line(self, text: str) -> None:
        """Print a line for people."""
        self.screen.print(text, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.screen.print(table)

    def progress(self, stage: str, done: int, total: int, note: str) -> None:
        """Show how far a stage is: a bar on a terminal, few plain lines elsewhere."""
        if not self.screen.is_terminal:
            self._plain(stage, done, total, note)
            return
        bars = self._started_bars()
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(stage, total=total or None, note=note)
        bars.update(self._tasks[stage], completed=done, total=total or None, note=note)
        if REFUSED in note:
            self.line(note)

    def ended(self, stage: str, line: str) -> None:
        """Say what a stage has made."""
        if self._bars is not None and stage in self._tasks:
            task = self._bars.tasks[self._tasks[stage]]
            self._bars.update(task.id, completed=task.total, note="")
        self.stop_bars()
        self.line(f"{stage}: {line}")

    def end(self, code: int, last: str, **result: Any) -> None:
        """Set exit code, last line and what the JSON object holds."""
        self.code, self.last = code, last
        self.result |= result

    def announce(self, text: str) -> None:
        """Say what is ready while the command goes on: the JSON object is printed now."""
        if not self.json:
            self.line(text)
        elif not self._announced:
            say_json(COMPLETE, text, self.result)
            self._announced = True

    def stop_bars(self) -> None:
        """Leave the bars as they are; what is printed next stands below them."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def close(self) -> NoReturn:
        """Print the last line and leave.

        Raises:
            typer.Exit: Always, with the exit code.
        """
        self.stop_bars()
        if self.json and not self._announced:
            say_json(self.code, self.last, self.result)
        fine = self.code in (COMPLETE, QUARANTINED) and not self.json
        print(self.last, file=sys.stdout if fine else sys.stderr, flush=True)
        raise typer.Exit(self.code)

    def _started_bars(self) -> Bars:
        if self._bars is None:
            self._bars = Bars(
                TextColumn("{task.description:8}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self.screen,
            )
            self._bars.start()
        return self._bars


def say_json(code: int, message: str, result: dict[str, Any]) -> None:
    """Print the JSON object of ``--json``."""
    value = {"status": STATUS[code], "exit_code": code, "message": message, **result}
    print(json.dumps(value, default=str), flush=True)


@contextmanager
def session(json: bool, debug: bool) -> Iterator[Console]:
    """Run a command's body; whatever ends it becomes an exit code and a last line.

    Raises:
        typer.Exit: Always, with the exit code.
    """
    console = Console(json, debug)
    if debug:
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("pipeline").setLevel(logging.DEBUG)
    try:
        yield console
    except KeyboardInterrupt:
        console.end(STOPPED, "stopped: the same command goes on where this one was stopped")
    except SettingsError as error:
        _failed(console, WRONG, f"wrong settings: {error}")
    except SegflowError as error:
        _failed(console, FAILED, f"failed: {error}")
    except Exception as error:  # whatever it is, a person gets one sentence
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "" if debug else "; run it again with --debug and report what it prints"
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
            said, hint = f"the disk is full ({error.filename})", f": {MAKE_ROOM}"
        _failed(console, FAILED, f"failed: {said}{hint}")
    console.close()


def _failed(console: Console, code: int, last: str) -> None:
    console.stop_bars()
    if console.debug:
        traceback.print_exc()
    console.end(code, last)
