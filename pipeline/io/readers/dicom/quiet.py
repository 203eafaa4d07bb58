"""pydicom and its decoders kept silent: what they say may quote a header, and so a patient."""

from __future__ import annotations

import logging
import threading
import warnings
from types import TracebackType

# Sets the level of its own logger when it is imported, so it comes before ours.
import pydicom.config  # noqa: F401

LIBRARIES = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle")

for _name in LIBRARIES:
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class _Quiet:
    """Ignores the libraries' warnings while any thread is inside.

    ``warnings.catch_warnings`` alone puts back the wrong filters when threads overlap; here the
    first thread to enter saves them and the last to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                for name in LIBRARIES:
                    warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(kind, error, traceback)


quiet = _Quiet()
