"""The end-to-end flow, run in this process by the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.console import Console
from flows.server import served
from pipeline.errors import ExecutionError

if TYPE_CHECKING:
    from pipeline.run import RunSettings, Stage

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DASK_LOGGING__DISTRIBUTED": "error",
}
QUIET = {
    # Only the console: the run's log still goes to the server.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
}
UNREACHABLE = "Failed to reach API"
"""How Prefect's own error begins; it is a plain RuntimeError."""


def prepare(debug: bool) -> None:
    """Set what Prefect reads when it is imported, where the user has not."""
    for name, value in (ENVIRONMENT if debug else ENVIRONMENT | QUIET).items():
        os.environ.setdefault(name, value)


def run_flow(settings: RunSettings, first: Stage, last: Stage, console: Console) -> None:
    """Run the flow ``segment`` here, on the server of ``PREFECT_API_URL`` or a temporary one.

    Raises:
        SegflowError: What a stage raised; or no server answers at ``PREFECT_API_URL``.
    """
    prepare(console.debug)
    from flows.segment import segment
    from flows.stages import LISTENER, Listener

    token = LISTENER.set(Listener(console.progress, console.ended))
    try:
        with served(console.debug) as url:
            _answered(url, lambda: segment(settings, first, last))
    finally:
        LISTENER.reset(token)


def _answered(url: str, call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:
        if not str(error).startswith(UNREACHABLE):
            raise
        raise ExecutionError(
            f"no Prefect server answers at {url}: start it with `prefect server start`, or unset "
            "PREFECT_API_URL to run without one"
        ) from error
