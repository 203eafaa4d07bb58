"""The end-to-end flow, run in this process by the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.console import Console
from pipeline.errors import SegflowError

if TYPE_CHECKING:
    from pipeline.run import RunSettings, Stage

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The temporary server needs up to 15 s on a slow disk; Prefect gives it 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DASK_LOGGING__DISTRIBUTED": "error",
}
QUIET = {
    # Only the console: the run's log still goes to the server.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
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
    from prefect.settings import PREFECT_API_URL

    from flows.segment import segment
    from flows.stages import LISTENER, Listener

    token = LISTENER.set(Listener(console.progress, console.ended))
    try:
        segment(settings, first, last)
    except RuntimeError as error:
        if not str(error).startswith(UNREACHABLE):
            raise
        raise SegflowError(
            f"no Prefect server answers at {PREFECT_API_URL.value()}: start it with "
            "`prefect server start`, or unset PREFECT_API_URL to run without one"
        ) from error
    finally:
        LISTENER.reset(token)
