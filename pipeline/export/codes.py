"""What classes are in coded words, as DICOM wants them.

A JSON object by class name; a code is its value, its scheme and its meaning:

{"liver": {"category": ["123037004", "SCT", "Anatomical Structure"],
           "type": ["10200004", "SCT", "Liver"]}}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError, StoreError
from pipeline.io.files import read_json

Code = tuple[str, str, str]
TISSUE: Code = ("85756007", "SCT", "Tissue")


@dataclass(frozen=True)
class Meaning:
    """What a class is: the property of its segment."""

    category: Code = TISSUE
    """Of CID 7150: an anatomical structure, a morphologically abnormal one, …"""
    type: Code = TISSUE
    """Within the category: a liver, a neoplasm, …"""


def read_codes(path: Path | None) -> dict[str, Meaning]:
    """Meanings by class name; none without a file.

    Raises:
        SettingsError: The file is absent, or holds something else.
    """
    if path is None:
        return {}
    try:
        value = read_json(path)
        return {
            str(name): Meaning(**{k: _code(v) for k, v in m.items()}) for name, m in value.items()
        }
    except (StoreError, AttributeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} holds no codes of classes: expected JSON such as "
            '{"liver": {"category": ["123037004", "SCT", "Anatomical Structure"], '
            '"type": ["10200004", "SCT", "Liver"]}}'
        ) from error


def _code(parts: Any) -> Code:
    value, scheme, meaning = (str(part) for part in parts)
    return value, scheme, meaning
