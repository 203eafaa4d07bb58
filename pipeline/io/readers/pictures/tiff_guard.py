"""What a TIFF's header may not claim, checked before tifffile builds anything from it."""

from __future__ import annotations

import struct
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError

MOST_PAGES = 2**20
"""Planes of one file; a longer chain is a loop in the making."""
MOST_TAGS = 4096
"""Tags of one page."""
PRIVATE = 32768
"""From this number on, tags are their makers' own."""
TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0], np.float64)
"""Bytes of each type of value."""
COUNTS = ("SizeZ", "SizeC", "SizeT", "IFD", "FirstZ", "FirstC", "FirstT", "PlaneCount", "NumPlanes")
"""Attributes of OME-XML that count planes."""


def count_pages(path: Path) -> int:
    """Pages in the chain of a TIFF or BigTIFF file, each checked to end within it.

    Raises:
        ValueError: The chain runs in a circle, leaves the file or has no end, or values that the
            TIFF standard names lie beyond the file's end.
        struct.error: The file ends within the chain.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = {b"II": "<", b"MM": ">"}.get(file.read(2))
        if order is None:
            raise ValueError("no TIFF")
        big = struct.unpack(f"{order}H", file.read(2))[0] == 43
        number, place, start = ("Q", "Q", 8) if big else ("H", "I", 4)
        tag = np.dtype(f"{order}u2, {order}u2, {order}{place}, {order}{place}")
        file.seek(start)
        (offset,) = struct.unpack(order + place, file.read(struct.calcsize(place)))
        seen: set[int] = set()
        while offset:
            if offset in seen or offset >= size or len(seen) == MOST_PAGES:
                raise ValueError(f"its chain of pages is broken after page {len(seen)}")
            seen.add(offset)
            file.seek(offset)
            (count,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
            if count > MOST_TAGS:
                raise ValueError(f"page {len(seen)} claims {count} tags")
            tags = np.frombuffer(file.read(count * tag.itemsize), tag, count)
            if _end(tags) > size:
                raise ValueError(f"page {len(seen)} lies beyond its end")
            (offset,) = struct.unpack(order + place, file.read(struct.calcsize(place)))
    return len(seen)


def _end(tags: NDArray[Any]) -> int:
    """Where the last value of a page's public tags ends; 0 where all stand in the tags."""
    number, kind, count, value = (tags[name] for name in ("f0", "f1", "f2", "f3"))
    length = TYPE_BYTES[np.minimum(kind, len(TYPE_BYTES) - 1)] * count.astype(np.float64)
    apart = (number < PRIVATE) & (length > value.dtype.itemsize)
    return int(np.max(length[apart] + value[apart], initial=0))


def ome_pixels(xml: str) -> dict[str, str]:
    """Attributes of the first image in OME-XML; empty where it has none.

    Raises:
        ElementTree.ParseError: It is not XML.
    """
    for element in ElementTree.fromstring(xml).iter():
        if _name(element) == "Pixels":
            return dict(element.attrib)
    return {}


def ome_planes(pixels: dict[str, str]) -> int:
    """Planes that OME-XML claims for an image."""
    z, c, t = (int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
    return z * c * t


def refuse_ome(path: Path, xml: str, page_size: int) -> list[Path]:
    """Refuse OME-XML that names files elsewhere, or claims more planes than a file has.

    Args:
        path: The file it stands in.
        xml: The metadata.
        page_size: Samples of its first page.

    Returns:
        The other files of the set, all in the same folder.

    Raises:
        CaseError: A file of the set lies outside the folder, or an axis is none of space.
        ValueError: A count is no number, or not to be believed.
    """
    others = []
    for element in ElementTree.fromstring(xml).iter():
        name = _name(element)
        if any(not 0 <= int(element.get(key, 0)) <= MOST_PAGES for key in COUNTS):
            raise ValueError(f"{name} claims planes beyond {MOST_PAGES}")
        if name == "Pixels":
            plane = int(element.get("SizeX", 0)) * int(element.get("SizeY", 0))
            if ome_planes(dict(element.attrib)) * plane > MOST_PAGES * page_size:
                raise ValueError(f"an image of more than {MOST_PAGES} planes")
        if name.startswith("ModuloAlong"):
            raise CaseError(
                f"{path.name} has an axis inside another ({name}).", "Save one volume per file."
            )
        if name == "UUID" and (other := element.get("FileName")):
            others.append(_neighbour(path, other))
    return [other for other in dict.fromkeys(others) if other != path and other.is_file()]


def _neighbour(path: Path, name: str) -> Path:
    if PurePath(name).name != name or PureWindowsPath(name).name != name:
        raise CaseError(
            f"{path.name} names a file outside its folder.",
            "Put the files of the set side by side, and correct its OME-XML.",
        )
    return path.with_name(name)


def _name(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
