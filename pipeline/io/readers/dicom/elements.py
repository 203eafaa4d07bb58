"""Elements of a DICOM header as plain numbers and text, whatever their writer made of them.

The bytes are read as they stand: pydicom's own values are checked against the standard, and what
it finds wrong it quotes in warnings.
"""

from __future__ import annotations

import math
import struct
from functools import cache, lru_cache
from typing import Any, TypeVar

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

T = TypeVar("T")
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
# The longest value a geometry has is six numbers of sixteen characters.
MOST_BYTES = 1024
# Beyond any millimetre, or factor; more would overflow on its way into an affine.
MOST = 1e12


@cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword of the data dictionary."""
    return Tag(keyword)


def shared(value: T) -> T:
    """The first of equal values, so that the headers of a million files hold it once."""
    first: T = _first(value)
    return first


@lru_cache(1024)
def _first(value: Any) -> Any:
    return value


def raw_element(dataset: Dataset, keyword: str) -> RawDataElement | None:
    """An element as the file has it; None where it is absent, empty or a sequence."""
    element = dataset.get_item(tag_of(keyword))
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        return element
    return None


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of an element; none where it is absent, empty or a sequence."""
    element = raw_element(dataset, keyword)
    return b"" if element is None or element.value is None else element.value


def numbers(dataset: Dataset, keyword: str, vr: str | None = None) -> tuple[float, ...]:
    """The numbers of an element; none where it is absent or holds anything else.

    Args:
        dataset: A header, or an item of a sequence.
        keyword: The element.
        vr: How to read its bytes; None: as the file says, or else the data dictionary.
    """
    element = raw_element(dataset, keyword)
    if element is None or element.value is None or len(element.value) > MOST_BYTES:
        return ()
    told = element.VR if element.VR not in (None, "UN") else dictionary_VR(tag_of(keyword))
    code = BINARY.get(vr or str(told))
    order = "<" if element.is_little_endian else ">"
    try:
        if code is not None:
            found = [float(n) for (n,) in struct.iter_unpack(order + code, element.value)]
        else:
            words = element.value.decode("ascii").strip(" \0").split("\\")
            found = [float(word) for word in words]
    except (ValueError, struct.error):
        return ()
    return tuple(found) if all(map(math.isfinite, found)) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number of an element, a length or a factor; None where it is none."""
    return next((n for n in numbers(dataset, keyword)[:1] if abs(n) < MOST), None)


def whole(dataset: Dataset, keyword: str, default: int) -> int:
    """The first number of an element as an integer, or ``default``."""
    return int(next(iter(numbers(dataset, keyword)), default))


def vector(dataset: Dataset, keyword: str, size: int) -> tuple[float, ...] | None:
    """The numbers of an element that holds exactly ``size`` of them, or None."""
    found = numbers(dataset, keyword)
    return found if len(found) == size and max(map(abs, found)) < MOST else None


def text(dataset: Dataset, keyword: str) -> str:
    """The first text of an element, as ASCII; empty where it is absent or holds anything else."""
    raw = raw_bytes(dataset, keyword)
    if len(raw) > MOST_BYTES:
        return ""
    return raw.decode("ascii", "replace").split("\\")[0].strip(" \0")


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or not a sequence."""
    tag = tag_of(keyword)
    value = dataset[tag].value if tag in dataset else None
    return list(value) if isinstance(value, Sequence) else []
