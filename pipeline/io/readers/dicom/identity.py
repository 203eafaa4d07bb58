"""Who a DICOM file is of: read for one purpose, to take it out of folder names.

Exports put each patient in a folder of that patient's name. What this module reads never leaves
it but as a yes or no, and, where case ids are asked for by patient, as the patient id.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pipeline.io.readers.dicom.elements import raw_bytes, tag_of
from pipeline.io.readers.dicom.quiet import quiet

IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthDate",
    "AccessionNumber",
)
HIDDEN = "…"
# Shorter words occur in others by chance: they count only between separators.
LONG = 3
SEPARATORS = re.compile(r"[^\w]+|_")


@dataclass
class Identity:
    """Words that name the patient of a series, as its files write them."""

    patient_id: str = field(default="", repr=False)
    """As written, for case ids that are asked for by patient."""
    words: set[str] = field(default_factory=set, repr=False)
    """Parts of names, ids and dates, as ``plain`` gives them."""
    _told: set[tuple[bytes, ...]] = field(default_factory=set, repr=False)

    def add(self, elements: Dataset) -> None:
        """Take in what a file says; most say what the one before said."""
        told = tuple(raw_bytes(elements, keyword) for keyword in IDENTIFYING)
        if told in self._told:
            return
        self._told.add(told)
        for keyword in IDENTIFYING:
            said = _text(elements, keyword)
            if keyword == "PatientID":
                self.patient_id = self.patient_id or said
            parts = SEPARATORS.split(said) if "Name" in keyword else said.split("\\")
            self.words.update(plain(part) for part in parts)
        self.words.discard("")

    def is_in(self, name: str) -> bool:
        """Whether a folder's name tells who the patient is."""
        whole, parts = plain(name), {plain(part) for part in SEPARATORS.split(name)}
        return any(word in (whole if _is_long(word) else parts) for word in self.words)

    def hidden(self, folder: Path) -> tuple[str, ...]:
        """The components of a relative path, those that tell who the patient is blotted out."""
        return tuple(HIDDEN if self.is_in(part) else part for part in folder.parts)


def plain(text: str) -> str:
    """Letters and digits only, without case and accents.

    Example:
        >>> plain("Müller-Lüd, É. 07")
        'mullerlude07'
    """
    letters = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in letters if c.isalnum())


def _is_long(word: str) -> bool:
    # Two signs of a script of syllables are a whole name.
    return len(word) >= LONG or not word.isascii()


def _text(elements: Dataset, keyword: str) -> str:
    raw = raw_bytes(elements, keyword)
    if not raw:
        return ""
    try:
        with quiet:
            value = elements[tag_of(keyword)].value
    # A name in a character set that pydicom does not know: letters of ASCII are left to compare.
    except Exception:
        return raw.decode("latin-1")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or "")
