"""Where files lie: a local path, or a URL of an object store.

A local place is a ``pathlib.Path``. A URL is a ``upath.UPath``, which has the same methods and
is annotated as ``Path`` throughout: what a function does with it says whether it may be remote.
Credentials come from the environment alone, as the store's own tools read them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import fsspec
from upath import UPath

from pipeline.errors import CaseError, SettingsError

URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
COPY_BYTES = 4 * 2**20
SCRATCH = "segflow-"


def locate(place: str | Path, key: str = "path") -> Path:
    """A path or URL as something with the methods of ``pathlib.Path``.

    Args:
        place: A local path, or a URL of a file system that fsspec knows.
        key: Name of the setting, for an error.

    Raises:
        SettingsError: The URL carries credentials, or its file system is not installed.
    """
    if isinstance(place, Path) or not URL.match(str(place)):
        return Path(place)
    text = str(place)
    if "@" in text.split("://", 1)[1].split("/", 1)[0]:
        raise SettingsError(
            f"{key} carries credentials in its URL: leave them out and set them in the "
            "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for example)"
        )
    try:
        return cast(Path, UPath(text))
    except (ImportError, ValueError) as error:
        raise SettingsError(f"{key}: {text} is of no file system known here ({error})") from error


def is_remote(place: Path) -> bool:
    """Whether a location is a URL, not a path of this machine."""
    return not isinstance(place, Path)


def filesystem(place: Path) -> tuple[Any, str]:
    """The fsspec file system of a location, and the location's name in it."""
    if isinstance(place, UPath):
        return place.fs, place.path
    return fsspec.filesystem("file"), str(place)


def exists(folder: Path, key: str) -> bool:
    """Whether a folder is there.

    Args:
        folder: A path or URL.
        key: Name of the setting, for an error.

    Raises:
        SettingsError: The object store does not answer, or refuses.
    """
    if not is_remote(folder):
        return folder.is_dir()
    files, name = filesystem(folder)
    try:
        return bool(files.isdir(name))
    except Exception as error:  # each store has errors of its own
        raise SettingsError(
            f"{key}: {folder} cannot be reached ({type(error).__name__}: {error}): look at the "
            "address and the credentials in the environment"
        ) from error


def bucket_of(place: Path) -> Path:
    """The bucket of a URL: what must exist before anything is written."""
    scheme, _, rest = str(place).partition("://")
    return locate(f"{scheme}://{rest.split('/')[0]}")


def refuse_links(folder: Path) -> None:
    """Refuse a folder that counts as one file and holds links: they may lead anywhere.

    Raises:
        CaseError: There is a link.
    """
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if os.path.islink(os.path.join(place, name)):
                raise CaseError(
                    f"{folder.name} holds links, {name} among them.",
                    "Copy what the links lead to into the folder.",
                )


class Inside:
    """Tells whether locations lie in a folder, links followed; an object store has no links.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root if is_remote(root) else root.resolve()
        self._folders: dict[Path, bool] = {root: True}

    def __call__(self, place: Path) -> bool:
        """Whether a file or folder lies in the root."""
        if is_remote(place):
            return ".." not in place.parts and place.is_relative_to(self._root)
        if place in self._folders:
            return self._folders[place]
        if place.name in ("", "..") or place.is_symlink():
            return self._leads_inside(place)
        # Of ten thousand files in a folder, the folder's links are followed once.
        folder = place.parent
        if folder not in self._folders:
            self._folders[folder] = self._leads_inside(folder)
        return self._folders[folder]

    def _leads_inside(self, place: Path) -> bool:
        try:
            return place.resolve().is_relative_to(self._root)
        except (OSError, RuntimeError):
            return True  # a link to itself leads nowhere; opening it will tell


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for the time of a task: where ``TMPDIR`` says, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch(place: Path, folder: Path) -> Path:
    """A local file, or folder, with the content of a location; local ones are left where they are.

    Args:
        place: File or folder, local or remote.
        folder: Where a remote one is copied to, under its own path.

    Raises:
        CaseError: It does not exist or cannot be read.
    """
    if not is_remote(place):
        return place
    files, name = filesystem(place)
    # Its whole path, so that files beside each other stay so and equal names do not meet.
    local = folder / name.strip("/")
    if local.exists():
        return local
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        files.get(name, str(local), recursive=files.isdir(name))
    except OSError as error:
        raise CaseError(
            f"{place.name} cannot be fetched ({type(error).__name__}: {error}).",
            "Look at the object store and the credentials in the environment.",
        ) from error
    return local


def entries(root: Path) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is a folder; links to folders are left out."""
    if is_remote(root):
        files, name = filesystem(root)
        found = files.ls(name, detail=True)
        names = [(str(e["name"]).rstrip("/").rsplit("/", 1)[-1], e["type"]) for e in found]
        # Object stores list a folder's own marker beside what is in it.
        return [(n, kind == "directory") for n, kind in names if n and n != root.name]
    with os.scandir(root) as entries:
        return [
            (entry.name, entry.is_dir(follow_symlinks=False))
            for entry in entries
            if not (entry.is_symlink() and _leads_to_folder(entry))
        ]


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    """Whether a link ends at a folder, which may lie anywhere, and around this one."""
    try:
        return link.is_dir()
    except OSError:  # it leads in a circle; whoever opens it will say so
        return False


def stat_of(file: Path) -> tuple[int, int]:
    """Bytes of a file, and its time of last change in nanoseconds.

    Raises:
        OSError: It does not exist, or cannot be opened.
    """
    if not is_remote(file):
        try:
            found = file.stat()
        except ValueError as error:  # a name that no file can have
            raise FileNotFoundError(errno.ENOENT, str(error)) from error
        if not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return found.st_size, found.st_mtime_ns
    files, name = filesystem(file)
    files.invalidate_cache()
    facts = files.info(name)
    changed = facts.get("LastModified") or facts.get("mtime") or facts.get("created") or 0
    seconds = changed.timestamp() if hasattr(changed, "timestamp") else float(changed)
    return int(facts["size"]), int(seconds * 1e9)


def sha256_of(place: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and sums of a folder's files; hexadecimal."""
    if place.is_dir():
        total = hashlib.sha256()
        for inner in walk_all(place):
            name = inner.relative_to(place).as_posix()
            total.update(f"{name}\0{sha256_of(inner)}\n".encode())
        return total.hexdigest()
    if not is_remote(place):
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    with place.open("rb") as file:
        while piece := file.read(COPY_BYTES):
            total.update(piece)
    return total.hexdigest()


def walk_all(folder: Path) -> Iterator[Path]:
    """Every file below a folder, hidden ones too, in order of name."""
    for name, inner in sorted(entries(folder)):
        if inner:
            yield from walk_all(folder / name)
        else:
            yield folder / name
