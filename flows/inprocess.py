"""The end-to-end flow, run in this process by the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from flows.console import Console
from flows.server import served
from pipeline.errors import ExecutionError

if TYPE_CHECKING:
    from pipeline.run import RunSettings, Stage

Made = TypeVar("Made")
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
    from flows.steps import LISTENER, Listener

    token = LISTENER.set(Listener(console.progress, console.ended))
    try:
        with served(console.debug) as url:
            answered(lambda: segment(settings, first, last), url)
    finally:
        LISTENER.reset(token)


def answered(call: Callable[[], Made], url: str = "") -> Made:
    """Make a call that talks to a Prefect server.

    Args:
        call: What to do.
        url: The server's; none: that of ``PREFECT_API_URL``.

    Raises:
        ExecutionError: No server answers, or none is named.
    """
    from httpx import ConnectError
    from prefect.settings import PREFECT_API_URL

    url = url or PREFECT_API_URL.value() or ""
    if not url:
        raise ExecutionError(
            "no Prefect server is named: start one with deploy/single-machine.sh up, and set "
            "PREFECT_API_URL as it says"
        )
    try:
        return call()
    except (RuntimeError, ConnectError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(UNREACHABLE):
            raise
        raise ExecutionError(
            f"no Prefect server answers at {url}: start it with `prefect server start`, or unset "
            "PREFECT_API_URL to run without one"
        ) from error
