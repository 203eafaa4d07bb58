"""A Prefect server for the length of one command, where no other is set.

Prefect would start one itself, but that one dies of the Ctrl-C that is meant for the command, so
that Prefect waits minutes for its answer; and it outlives a command that is killed.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from pipeline.errors import ExecutionError

START_S = 120
"""A new database takes 15 s on a slow disk."""


@contextmanager
def served(debug: bool) -> Iterator[str]:
    """Inside, Prefect has a server: that of ``PREFECT_API_URL``, or one of our own; give its URL.

    Raises:
        ExecutionError: No server could be started.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = PREFECT_API_URL.value()
    if url:
        yield url
        return
    url = _start(debug)
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


def _start(debug: bool) -> str:
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server"],
        env={**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"},
        stdin=subprocess.PIPE,  # held open for as long as this process lives
        stdout=subprocess.PIPE,
        stderr=None if debug else subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    # At exit, not before: Prefect still sends the last lines of the log when the flow has ended.
    atexit.register(_stop, process)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{process.stdout.readline().strip()}/api"
    patience = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < patience:
        try:
            with urlopen(f"{url}/health", timeout=5):
                return url
        except OSError:
            time.sleep(0.1)
    _stop(process)
    raise ExecutionError("the temporary Prefect server does not start: see `segflow doctor`")


def _stop(process: subprocess.Popen[str]) -> None:
    process.communicate()  # closes its standard input, and so ends it


def main() -> None:
    """Serve on a free port, say which, and end with the process at the other end of stdin."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    import uvicorn
    from prefect.server.api.server import create_app

    settings = uvicorn.Config(create_app, factory=True, log_level="critical")
    uvicorn.Server(settings).run(sockets=[listener])


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock the interpreter wants when it ends.
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
