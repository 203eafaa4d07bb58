"""Processes that take blocks of steps on command, so that what is compared runs in turns.

A side prepares itself, and then reads orders, a JSON object on a line, from its standard input:
``{"feed": "loader", "steps": 25}``. It answers with ``{"seconds": [...]}``, one for each step.
Between two orders it waits.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from pipeline.training.distributed import environment

ROOT = Path(__file__).parents[2]
DROPPED = 5
"""Steps at a block's beginning that are not counted: those whose batches, up to four in either
loader that is compared, were ready before it began."""
LEAST_ROUNDS = 3


class Side:
    """A process that takes steps on command.

    Args:
        command: Starts it.
        changes: Environment variables besides this process's own.
    """

    def __init__(self, command: Sequence[str], changes: Mapping[str, str] | None = None) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment(1), **(changes or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()  # it ends by itself, its workers with it
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def block(self, feed: str, steps: int) -> list[float]:
        """Take a block of steps.

        Args:
            feed: ``loader`` or ``repeated``.
            steps: That are counted.

        Returns:
            Seconds of each.

        Raises:
            RuntimeError: The process has ended; the message holds its last words.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"feed": feed, "steps": DROPPED + steps}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is met, and told of, below
        for line in self._process.stdout:
            if line.startswith('{"seconds"'):
                return list(json.loads(line)["seconds"][DROPPED:])
        self._said.seek(0)
        raise RuntimeError(f"a side of the benchmark ended: {self._said.read()[-3000:]}")


def in_turns(
    feeds: Mapping[str, tuple[Side, str]], steps: int, seconds: float
) -> dict[str, list[float]]:
    """Let sides take blocks in turns, forwards and backwards.

    Args:
        feeds: Side and feed by the name of what is compared.
        steps: Steps of a block.
        seconds: No round begins later than this after the first, once three are done.

    Returns:
        Mean seconds of a step in each round, by name.
    """
    found: dict[str, list[float]] = {name: [] for name in feeds}
    for side, feed in feeds.values():
        side.block(feed, 1)  # ready, and warm
    begun, rounds = time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or time.perf_counter() - begun < seconds:
        for name in list(feeds) if rounds % 2 == 0 else reversed(feeds):
            side, feed = feeds[name]
            found[name].append(fmean(side.block(feed, steps)))
        rounds += 1
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """The median of the rounds' ratios, and how they spread."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return {"ratio": round(median(ratios), 3), "quartiles": [round(low, 3), round(high, 3)]}
