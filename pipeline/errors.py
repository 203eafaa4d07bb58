"""Every exception segflow raises on purpose.

SegflowError
├── SettingsError        a key or value of run.yaml is wrong (exit code 2)
├── CaseError            one case's files are unusable; the case is quarantined, the run goes on
├── GridError            windows, tiles or grids that do not fit together
├── StoreError           a store on disk is not what it should be, or a write would damage it
├── NothingUsableError   a stage has no case left to work on (exit code 1)
├── ExecutionError       tasks failed for reasons other than their input (exit code 1)
├── BusyError            another segflow works on the same run (exit code 1)
├── TrainingError        training stopped, with what to do (exit code 1)
└── ModelError           a checkpoint is absent, damaged, or of another network (exit code 1)

Every message says what was met, what was expected and what to do.
"""

from __future__ import annotations


class SegflowError(Exception):
    """Base of all errors raised on purpose."""


class SettingsError(SegflowError):
    """A key or value in run.yaml, or of ``--set``, is wrong."""


class CaseError(SegflowError):
    """One case cannot be used; the others can.

    Args:
        reason: What was met and what was expected, one sentence.
        remedy: What a person does about it, one sentence.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}"


class GridError(SegflowError):
    """Windows, tiles or grids do not fit together."""


class StoreError(SegflowError):
    """A store on disk is not what it should be, or a write would damage it."""


class NothingUsableError(SegflowError):
    """A stage has no case left to work on."""


class ExecutionError(SegflowError):
    """Tasks failed for reasons other than their input."""


class BusyError(SegflowError):
    """Another segflow works on the same run."""


class TrainingError(SegflowError):
    """Training stopped before its budget was used."""


class ModelError(SegflowError):
    """A checkpoint is absent, damaged, or belongs to another network."""
