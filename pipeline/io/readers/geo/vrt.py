"""GDAL's virtual rasters, checked before GDAL sees them.

A VRT is a text that says where pixels are; it may name any file, any URL and Python code. What is
given to GDAL is not the file but its text parsed and written anew, each name in it checked, so
that no trick of notation lies between what was checked and what is read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pipeline.errors import CaseError

LARGEST = 64 * 2**20
"""Most bytes of a VRT's text, those within it included: some 100,000 sources."""
DEEPEST = 4
"""Most VRTs within each other; one that names itself ends here."""
NAMES = ("sourcefilename", "sourcedataset")
"""Elements whose text is a file's name. GDAL does not tell upper case from lower."""
PLAIN = ("vrtsourcedrasterband", "vrtderivedrasterband")
"""Kinds of bands that read sources and nothing else."""
CODE = ("pixelfunctionlanguage", "pixelfunctioncode")


class CheckedVrt:
    """A VRT whose every source is a raster in its own folder or below.

    Args:
        path: The file.
        is_raster: Whether a file holds pixels in a format that is read.

    Raises:
        CaseError: It names anything else, or holds code.
        ValueError: It is not XML.
    """

    def __init__(self, path: Path, is_raster: Callable[[Path], bool]) -> None:
        self.path = path
        self._is_raster = is_raster
        self._folder = path.parent.resolve()
        self._texts: dict[tuple[Path, int], str] = {}
        self._length = 0
        self.rasters: dict[Path, None] = {}
        """Files that pixels are taken from, in the order of their first mention."""
        self.inner: dict[Path, None] = {}
        """VRTs within this one."""
        self.text = self._checked(path, 1)
        """The text for GDAL: sources named in full, VRTs within it written out."""

    def _checked(self, file: Path, depth: int) -> str:
        if (file, depth) not in self._texts:
            root = self._parsed(file)
            for element in root.iter():
                self._refuse_special(element)
                if _plain(element.tag) in NAMES:
                    name = self._name(file.parent, element.text or "", depth)
                    element.clear()
                    element.text = name
                    element.set("relativeToVRT", "0")
            self._texts[file, depth] = ElementTree.tostring(root, encoding="unicode")
        return self._texts[file, depth]

    def _name(self, folder: Path, name: str, depth: int) -> str:
        """What stands for a source in the text: its full path, or the VRT that it is."""
        place = (folder / name).resolve()
        # An odd name (a URL, GDAL's "/vsi…" and "driver:…") is no file of the folder either.
        if not (place.is_relative_to(self._folder) and place.is_file()):
            self._refuse(f"names {name[:100]!r}, which is no file in its own folder or below")
        if self._is_raster(place):
            self.rasters[place] = None
            return str(place)
        if not _is_vrt(place):
            self._refuse(f"names {place.name}, which is neither TIFF, JPEG 2000 nor a VRT")
        if depth == DEEPEST:
            self._refuse(f"holds more than {DEEPEST} VRTs within each other")
        self.inner[place] = None
        return self._counted(self._checked(place, depth + 1))

    def _counted(self, text: str) -> str:
        self._length += len(text)
        if self._length > LARGEST:
            self._refuse(f"is, with the VRTs within it, more than {LARGEST} bytes of text")
        return text

    def _parsed(self, file: Path) -> Element:
        if file.stat().st_size > LARGEST:
            self._refuse(f"is more than {LARGEST} bytes of text")
        text = file.read_text("utf-8-sig")
        if "<!DOCTYPE" in text.upper():
            self._refuse("declares a document type, which a VRT does not need")
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise ValueError(f"not XML: {error}") from error
        if root.tag != "VRTDataset":
            self._refuse("does not hold a VRT, whatever its suffix says")
        return root

    def _refuse_special(self, element: Element) -> None:
        # To GDAL an attribute and an element within are the same.
        for key, value in [*element.items(), (element.tag, element.text or "")]:
            key = _plain(key)
            if key == "subclass" and value.strip().lower() not in PLAIN:
                self._refuse(f"holds a {value[:50]}, which is more than bands put together")
            if key in CODE:
                self._refuse("holds a function in a programming language, which is not run")
        if any(_plain(key) in NAMES for key, _ in element.items()):
            self._refuse("names a source in an attribute, where an element is expected")

    def _refuse(self, met: str) -> NoReturn:
        raise CaseError(
            f"{self.path.name} {met}.",
            "Put what it needs into its folder, or make one GeoTIFF of it with gdal_translate.",
        )


def _plain(tag: str) -> str:
    return tag.rsplit("}", 1)[-1].lower()


def _is_vrt(path: Path) -> bool:
    with path.open("rb") as file:
        return b"<VRTDataset" in file.read(1024)
