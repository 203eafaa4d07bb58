"""A few stores over HTTP: read only, on loopback, for viewers that run in a browser.

Any page of a browser may ask a server on loopback, and viewers need to: so every address holds a
secret that changes with each start, as Jupyter's do, and names no case.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

logger = logging.getLogger(__name__)
HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
PIECE_BYTES = 2**20
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Accept-Ranges",
    "Access-Control-Max-Age": "86400",
    # Chromium asks before a public page may reach a private address.
    "Access-Control-Allow-Private-Network": "true",
    "X-Content-Type-Options": "nosniff",
}


class StoreServer(ThreadingHTTPServer):
    """Serves stores until it is shut down; each request has its thread.

    Args:
        stores: Folders, by the name under which they are served. A link such as
            ``published/current`` is followed once, now: a viewer sees one version throughout.
        port: Port on loopback; 0: any that is free.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True

    def __init__(self, stores: Mapping[str, Path], port: int = 0) -> None:
        self.stores = {name: path.resolve() for name, path in stores.items()}
        self.secret = secrets.token_urlsafe(16)
        super().__init__((HOST, port), _Handler)

    def url(self, name: str) -> str:
        """Address of a store."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/{name}"

    def find(self, target: str) -> Path | None:
        """The file that a request's target names; None where there is none, or none to serve.

        Args:
            target: Path and query as the client sent them.
        """
        path = unquote(urlsplit(target).path)
        parts = path.split("/")[1:]
        if len(parts) < 3 or not secrets.compare_digest(parts[0].encode(), self.secret.encode()):
            return None
        root = self.stores.get(parts[1])
        # What starts with a dot leads upwards, or is not of the store.
        if root is None or any(not p or p.startswith(".") or "\0" in p for p in parts[2:]):
            return None
        place = root.joinpath(*parts[2:]).resolve()
        return place if place.is_relative_to(root) and place.is_file() else None

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep a broken connection off the terminal, but for ``--debug``."""
        logger.debug("a request broke off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET, HEAD and OPTIONS; a range of bytes where one is asked for."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: StoreServer

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send what GET would, without its body."""
        self._answer(with_body=False)

    def do_OPTIONS(self) -> None:
        """Allow a page of any origin to ask: who knows the secret may."""
        self._head(HTTPStatus.NO_CONTENT, {})

    def _answer(self, *, with_body: bool) -> None:
        # A page whose name was made to lead here asks for its own host, not for this one.
        here = self.headers.get("Host", "").partition(":")[0] in HOSTS
        path = self.server.find(self.path) if here else None
        if path is None:
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        try:
            with path.open("rb") as file:
                self._send(path, file, with_body=with_body)
        except (BrokenPipeError, ConnectionResetError):  # a viewer that has moved on hangs up
            self.close_connection = True

    def _send(self, path: Path, file: BinaryIO, *, with_body: bool) -> None:
        size = file.seek(0, 2)
        asked = _range(self.headers.get("Range"), size)
        kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
        about = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        if asked is None:
            start, stop, status = 0, size, HTTPStatus.OK
        elif not asked:
            refused = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
            self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, refused)
            return
        else:
            start, stop, status = asked.start, asked.stop, HTTPStatus.PARTIAL_CONTENT
            about["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._head(status, {**about, "Content-Length": str(stop - start)})
        if with_body:
            self._copy(file, start, stop)

    def _copy(self, file: BinaryIO, start: int, stop: int) -> None:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
            self.wfile.write(piece)
            start += len(piece)

    def _head(self, status: HTTPStatus, about: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**about, **CORS}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a view is hundreds of requests."""


def _range(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for; empty where there are none such, None: all.

    A header that is not one range of bytes is left aside, as RFC 9110 allows.

    Example:
        >>> _range("bytes=2-5", 10), _range("bytes=-4", 10), _range("bytes=8-", 10)
        (range(2, 6), range(6, 10), range(8, 10))
        >>> _range("bytes=10-", 10), _range("bytes=0-1,4-5", 10), _range(None, 10)
        (range(0, 0), None, None)
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        return range(max(0, size - int(match[2])), size)
    start = int(match[1])
    stop = min(size, int(match[2]) + 1) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return range(start, stop) if start < stop else range(0)
