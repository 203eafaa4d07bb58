"""What ended a training, as a sentence that says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch.distributed as dist

from pipeline import errors

GOES_ON = "run the same command again to go on from the last checkpoint"
SHORT_OF_MEMORY = "lower plan.memory_gb, so that a step needs less, or set train.accumulate"
DISK = f"make room, then {GOES_ON}, which stands"
REMEDIES = {
    "OutOfMemoryError": f"memory is too small for a step: {SHORT_OF_MEMORY}",
    "can't allocate memory": f"memory is too small for a step: {SHORT_OF_MEMORY}",
    "DataLoader worker": "a process that prepares patches ended: where nobody ended it, memory is "
    f"short: lower train.loader_workers, then {GOES_ON}",
    "DataLoader timed out": "a process that prepares patches hangs, or the disk of the patches "
    f"does: see whether it can be read, then {GOES_ON}",
    "clients joined": "no other machine came within train.timeout_minutes: start `segflow train` "
    "on each, with a train.host of its own and the same train.meet_at",
    "[Errno 28]": f"the disk is full: {DISK}",
    "[Errno 122]": f"the disk quota is used up: {DISK}",
    "[Errno 27]": f"files may not become that large here: raise the limit, then {GOES_ON}",
    "[Errno 30]": f"the disk may only be read: mount it for writing, then {GOES_ON}",
    "[Errno 5]": f"the disk fails: look after it, then {GOES_ON}",
}
"""What to do about errors that are none of segflow's, by a part of what they say."""
SIGNALS = {
    "SIGKILL": "where nobody did it the machine was short of memory: lower plan.memory_gb or "
    "train.loader_workers",
    "SIGBUS": "shared memory, /dev/shm, is too small: enlarge it, or set train.loader_workers to 0",
}
"""What is behind a process that a signal ended."""


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error says that another process of the training has ended or does not answer."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and any(word in str(error) for word in ("gloo", "Connection closed", "Connection reset"))
    )


def lost_peer(rank: int, error: BaseException, timeout_minutes: float) -> str:
    """What a process says when another has ended or does not answer.

    Args:
        rank: The process that waited.
        error: What it met.
        timeout_minutes: How long it waits at most.
    """
    if "imed out" in str(error) or "timeout" in str(error).lower():
        return (
            f"process {rank} has waited {timeout_minutes:g} minutes for another one of the "
            "training, which hangs: look at its machine, or raise train.timeout_minutes if a "
            f"validation takes as long; then {GOES_ON}"
        )
    return f"process {rank} has lost another one of the training, which has ended: {GOES_ON}"


def silence(patience_s: float) -> str:
    """What is said of a training that has not given a sign of life for so long."""
    return (
        f"the training has not given a sign of life for {patience_s / 60:.3g} minutes and was "
        f"ended: look at its machine, then {GOES_ON}"
    )


def first_error(error_file: Path, last: Sequence[str], code: int) -> str:
    """What ended a training.

    Args:
        error_file: Where torchrun leaves the first error that a process raised.
        last: The last lines that it and the processes printed.
        code: Its exit code.
    """
    signals = _signals(last)
    if signals:
        name = sorted(signals)[0]
        why = SIGNALS.get(name, "it crashed: see whether `segflow doctor` finds the machine fit")
        return f"a process of the training was ended by {name}; {why}; then {GOES_ON}"
    if error_file.exists():
        message: Any = json.loads(error_file.read_text())["message"]
        return _sentence(str(message["message"] if isinstance(message, dict) else message))
    # torchrun frames its own account in rules; what a process said itself stands before it.
    said = [line for line in takewhile(lambda line: not line.startswith("====="), last) if line]
    heard = f" Its last words: {' | '.join(said)[-400:]}" if said else ""
    return f"a training process ended with code {code}; {GOES_ON}.{heard}"


def _sentence(said: str) -> str:
    """An error's words, and what to do where they do not say it."""
    kind, _, words = said.partition(": ")
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, errors.SegflowError):
        return words
    first = " ".join(said.split())[:300]
    for part, remedy in REMEDIES.items():
        if part in said:
            return f"{remedy} ({first})"
    return f"a process of the training failed ({first}); {GOES_ON}"


def _signals(last: Collection[str]) -> set[str]:
    """Signals that ended processes, but for those that torchrun ended itself after the first."""
    said = "\n".join(last)
    ended = set(re.findall(r"Sending process (\d+) closing signal", said))
    met = re.findall(r"Signal \d+ \((SIG\w+)\) received by PID (\d+)", said)
    return {name for name, pid in met if pid not in ended}
