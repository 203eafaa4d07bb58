"""Small files written so that a reader never meets half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.io.location import filesystem, is_remote


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it into place.

    A file that holds the content already is left alone, its time of change too.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that go with each other: none is replaced before all lie on the disk.

    Where one cannot be written all stay as they were, and nothing is left behind.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            if _holds(path, content):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            staged[path] = path.with_name(f".{path.name}.{os.getpid()}.partial")
            with staged[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in staged.items():
            os.replace(temporary, path)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file is there with this content."""
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A value as indented JSON."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StoreError: The file is absent or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}): run its stage again") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_atomic(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file; empty where it is absent.

    A last line that a crash cut short is left out: its unit counts as not done.
    """
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise StoreError(
                f"line {number} of {path} is not JSON: restore it or delete it"
            ) from error
    return rows


def csv_cell(value: Any) -> Any:
    """A value for a cell of a CSV file, which a spreadsheet never takes for a formula.

    Case ids and class names are made of strangers' file names; a quotation mark before what would
    be one is how spreadsheets themselves write it. JSON beside the table has names as they are.

    Example:
        >>> csv_cell("=1+1"), csv_cell("liver_0"), csv_cell(-0.5)
        ("'=1+1", 'liver_0', -0.5)
    """
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def digest(*parts: Any) -> str:
    """A short key of JSON values: equal values give equal keys, on any machine.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def point(link: Path, name: str) -> None:
    """Let a symbolic link name something beside it, in one step: a reader sees old or new."""
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    os.replace(temporary, link)


def remove_tree(path: Path) -> None:
    """Delete a folder if it is there."""
    if is_remote(path):
        files, name = filesystem(path)
        files.invalidate_cache()
        if files.exists(name):
            files.rm(name, recursive=True)
    elif path.exists():
        shutil.rmtree(path)
