"""Between a training process and the one that launched it: signs of life, either way."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

TETHER = "SEGFLOW_TETHER"
"""Set where a launcher listens."""
SIGN_S = 10.0
"""Seconds between two signs of life."""


def die_with_parent() -> None:
    """End this process when the one that launched it is gone, however it went.

    The launcher holds the other end of standard input and writes nothing: its end means that
    the launcher has died, and that nobody wants this process's work.
    """
    if os.environ.get(TETHER) != "1":
        return

    def watch() -> None:
        # The bare descriptor: a lock on sys.stdin would be held for ever in forked loaders.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tell(message: dict[str, Any]) -> None:
    """Tell the launcher something."""
    # In one piece: print() would write the end of the line by itself, and threads tell too.
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def show_signs_of_life() -> None:
    """Tell the launcher now and then that this process is alive, whatever it is busy with."""
    if os.environ.get(TETHER) != "1" or os.environ.get("LOCAL_RANK", "0") != "0":
        return

    def show() -> None:
        while True:
            time.sleep(SIGN_S)
            tell({"event": "alive"})

    threading.Thread(target=show, daemon=True).start()
