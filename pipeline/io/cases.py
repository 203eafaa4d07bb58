"""From a dataset's folder to its cases: which files belong together, and whether they fit."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.errors import CaseError, SettingsError
from pipeline.io.ngff import LabelClass
from pipeline.io.readers import Source, case_id, difference, format_suffix, open_source
from pipeline.io.volume_store import label_dtype, no_label
from pipeline.space import Volume, Window


class ClassSettings(BaseModel):
    """A class, and the values by which the mask files mark it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1)]
    """Name in stores, scores and reports."""
    values: Annotated[tuple[int, ...], Field(min_length=1)]
    """Values in the mask files; several values may mean one class."""
    background: bool = False
    """The background is neither sampled for in training nor scored. The first class only."""


class DataSettings(BaseModel):
    """Where the images are and what their masks mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: str
    """Dataset folder; nothing outside it is read."""
    layout: Literal["msd", "pairs"]
    """``msd``: a dataset.json lists images and labels (Medical Segmentation Decathlon).
    ``pairs``: two folders, image and mask share their name but for the format's suffix."""
    images: str = "images"
    """Image folder under the root (layout pairs)."""
    masks: str | None = "masks"
    """Mask folder under the root (layout pairs); null: there are no masks, predict only."""
    unlabelled: Literal["quarantine", "predict"] = "quarantine"
    """What an image without a mask is: a mistake, or a case to predict (layout pairs)."""
    classes: tuple[ClassSettings, ...]
    """Classes in label order: the first is label 0 in every store segflow writes."""
    ignore_values: tuple[int, ...] = ()
    """Mask values that mean "not annotated": neither learnt nor scored."""
    nodata: float | None = None
    """Image value that means "no data", where the files do not say it themselves; .nan allowed."""
    group: str | None = None
    """Regular expression on the case id; its first group (or whole match) names the patient or
    scene. Cases of one group never part over splits. Null: each case is its own group."""
    modality: Literal["ct", "other"] = "other"
    """``ct`` images hold Hounsfield units: intensities are normalised over the whole dataset."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[ClassSettings, ...]) -> tuple[ClassSettings, ...]:
        names = Counter(c.name for c in classes)
        values = Counter(v for c in classes for v in c.values)
        for kind, counted in (("class name", names), ("mask value", values)):
            if twice := [key for key, n in counted.items() if n > 1]:
                raise ValueError(f"{kind} {twice[0]!r} stands twice: each belongs to one class")
        if len(classes) < 2:
            raise ValueError("at least two classes are needed, the background included")
        if any(c.background for c in classes[1:]):
            raise ValueError("only the first class may be marked background: it is label 0")
        return classes

    @field_validator("group")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression ({error})") from error
        return pattern

    @model_validator(mode="after")
    def _values_apart(self) -> DataSettings:
        both = {v for c in self.classes for v in c.values} & set(self.ignore_values)
        if both:
            raise ValueError(f"value {min(both)} is both of a class and in ignore_values")
        return self

    @property
    def label_classes(self) -> tuple[LabelClass, ...]:
        """The classes as stores and reports carry them."""
        return tuple(LabelClass(i, c.name, c.background) for i, c in enumerate(self.classes))

    @property
    def background(self) -> int | None:
        """Label of the background; None where every class counts."""
        return next((i for i, c in enumerate(self.classes) if c.background), None)

    def group_of(self, case: str) -> str:
        """The group a case belongs to."""
        found = re.search(self.group, case) if self.group else None
        if found is None:
            return case
        return str(found.group(1) if found.re.groups else found.group(0))


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case."""

    case: str
    """Case id."""
    image: Path
    """Image file."""
    mask: Path | None
    """Mask file; None for a case to predict."""
    problem: CaseError | None = None
    """Why the case is refused already, before its files are opened."""


def discover(data: DataSettings) -> list[CaseFiles]:
    """The cases of a dataset, ordered by id; files are not opened.

    Raises:
        SettingsError: The folder, or the list it should hold, is not there.
    """
    root = Path(data.root)
    if not root.is_dir():
        raise SettingsError(f"data.root: {root} is not a folder: give the dataset's folder")
    found = _msd_cases(root) if data.layout == "msd" else _pair_cases(root, data)
    return sorted(refuse_twins(found), key=lambda files: files.case)


def _msd_cases(root: Path) -> list[CaseFiles]:
    listing = root / "dataset.json"
    try:
        content = json.loads(listing.read_text())
        labelled = [(str(e["image"]), str(e["label"])) for e in content["training"]]
        test = [str(e["image"] if isinstance(e, dict) else e) for e in content.get("test", [])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{listing} is not a Decathlon listing ({error!r}): it needs a list `training` of "
            "{image, label}"
        ) from error
    cases = [_listed(root, image, label) for image, label in labelled]
    return cases + [_listed(root, image, None) for image in test]


def _listed(root: Path, image: str, label: str | None) -> CaseFiles:
    paths = [root / name for name in (image, label) if name is not None]
    case = case_id(Path(image))
    problem = None
    if any(not p.resolve().is_relative_to(root.resolve()) for p in paths):
        problem = CaseError(
            "dataset.json names a file outside the dataset's folder.",
            "Move the file into the folder and correct dataset.json.",
        )
    return CaseFiles(case, paths[0], paths[1] if label is not None else None, problem)


def _pair_cases(root: Path, data: DataSettings) -> list[CaseFiles]:
    images = image_files(_subfolder(root, "images", data.images))
    if data.masks is None:
        return [CaseFiles(case_id(path), path, None) for path in images]
    files = image_files(_subfolder(root, "masks", data.masks))
    masks = {case_id(path): path for path in files}
    twins = Counter(case_id(path) for path in files)
    cases = []
    for path in images:
        case = case_id(path)
        problem = None
        if case not in masks and data.unlabelled == "quarantine":
            problem = CaseError(
                f"{path.name} has no mask in {data.masks}/.",
                "Add the mask, or set data.unlabelled to predict.",
            )
        elif twins[case] > 1:
            problem = CaseError(
                f"{data.masks}/ holds {twins[case]} masks of case {case}.",
                "Rename or remove all but one of them.",
            )
        cases.append(CaseFiles(case, path, masks.get(case), problem))
    known = {case.case for case in cases}
    for case in sorted(masks.keys() - known):
        problem = CaseError(
            f"the mask {masks[case].name} has no image in {data.images}/.",
            "Add the image, or remove the mask.",
        )
        cases.append(CaseFiles(case, masks[case], None, problem))
    return cases


def _subfolder(root: Path, key: str, name: str) -> Path:
    folder = root / name
    if not folder.resolve().is_relative_to(root.resolve()):
        raise SettingsError(f"data.{key}: {name} leaves the dataset's folder {root}")
    if not folder.is_dir():
        raise SettingsError(f"data.{key}: {folder} is not a folder")
    return folder


def image_files(folder: Path) -> list[Path]:
    """Files of a known format in a folder, by name; hidden ones (``._x`` of macOS) left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if format_suffix(path) is not None and not path.name.startswith(".") and path.is_file()
    )


def refuse_twins(cases: Iterable[CaseFiles]) -> list[CaseFiles]:
    """One row per case id; where two images share one, the case is refused."""
    by_id: dict[str, CaseFiles] = {}
    for files in cases:
        first = by_id.get(files.case)
        if first is not None:
            problem = CaseError(
                f"{first.image.name} and {files.image.name} are both case {files.case}.",
                "Rename or remove one of them.",
            )
            files = CaseFiles(files.case, first.image, first.mask, problem)
        by_id[files.case] = files
    return list(by_id.values())


@dataclass(frozen=True)
class OpenCase:
    """A case whose headers fit together, ready to be read window by window."""

    image: Source
    """The image."""
    mask: Source | None
    """Its mask; None for a case to predict."""
    lookup: LabelLookup
    """From mask values to class numbers."""
    nodata: float | None
    """Image value that means "no data", from the settings."""

    def read(self, window: Window) -> tuple[Volume, NDArray[Any] | None]:
        """Voxels with validity, and class numbers, of a window.

        Raises:
            CaseError: A file is damaged, an image value is NaN or infinite, or a mask value is
                of no class.
        """
        volume = self._declared(self.image.read(window))
        if np.issubdtype(volume.array.dtype, np.floating):
            _refuse_not_finite(volume)
        if self.mask is None:
            return volume, None
        mask = self.mask.read(window)
        told = np.ones(window.shape, bool)
        for valid in (volume.valid, mask.valid):
            if valid is not None:
                told &= valid
        return volume, self.lookup.labels(mask.array[0], told)

    def _declared(self, volume: Volume) -> Volume:
        if self.nodata is None:
            return volume
        nan = np.isnan(self.nodata)
        hit = np.isnan(volume.array) if nan else volume.array == self.nodata
        missing = hit.any(axis=0) if nan else hit.all(axis=0)
        valid = ~missing if volume.valid is None else volume.valid & ~missing
        return Volume(volume.array, volume.grid, valid)


class LabelLookup:
    """Mask values → class numbers.

    Args:
        classes: Classes with their mask values, in label order.
        ignore_values: Values that become no-label.
    """

    def __init__(self, classes: tuple[ClassSettings, ...], ignore_values: tuple[int, ...]) -> None:
        self.dtype = label_dtype(len(classes))
        pairs = [(v, i) for i, c in enumerate(classes) for v in c.values]
        pairs += [(v, no_label(self.dtype)) for v in ignore_values]
        pairs.sort()
        self._values = np.asarray([v for v, _ in pairs], dtype=np.int64)
        self._labels = np.asarray([i for _, i in pairs], dtype=self.dtype)

    def labels(self, values: NDArray[Any], told: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """Class numbers of mask values, same shape; NaN, which is no number, is no label.

        Args:
            values: Mask values.
            told: False where image or mask have no data: what stands there is no label.

        Raises:
            CaseError: A value belongs to no class.
        """
        place = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        silent = np.zeros(values.shape, bool) if told is None else ~told
        if np.issubdtype(values.dtype, np.floating):
            silent |= np.isnan(values)
        unknown = (self._values[place] != values) & ~silent
        if unknown.any():
            met = ", ".join(f"{v:.10g}" for v in np.unique(values[unknown])[:5])
            known = ", ".join(str(v) for v in self._values)
            raise CaseError(
                f"its mask holds the value {met}, which is of no class (known: {known}).",
                "Correct the mask, or add the value to data.classes or data.ignore_values.",
            )
        labels: NDArray[Any] = self._labels[place]
        labels[silent] = no_label(self.dtype)
        return labels


def open_case(files: CaseFiles, data: DataSettings) -> OpenCase:
    """Open a case and check that its headers fit together; reads no voxel.

    Raises:
        CaseError: A file is absent or damaged, or mask and image differ in shape or place.
    """
    if files.problem is not None:
        raise files.problem
    image = open_source(files.image, "image")
    mask = None if files.mask is None else open_source(files.mask, "mask")
    if mask is not None:
        _refuse_misfit(image, mask)
    return OpenCase(image, mask, LabelLookup(data.classes, data.ignore_values), data.nodata)


def _refuse_misfit(image: Source, mask: Source) -> None:
    if mask.channels != 1:
        raise CaseError(f"its mask has {mask.channels} channels: one is expected.", "Split it.")
    if mask.grid.shape != image.grid.shape:
        raise CaseError(
            f"its mask has shape {mask.grid.shape}, its image {image.grid.shape}: they must agree.",
            "Draw or export the mask on the image's own grid.",
        )
    if mask.placed and image.placed and (apart := difference(image.grid, mask.grid)):
        raise CaseError(
            f"its mask lies elsewhere than its image: {apart}.",
            "Resample the mask to the image's grid, or correct its header.",
        )


def _refuse_not_finite(volume: Volume) -> None:
    bad = ~np.isfinite(volume.array).all(axis=0)
    if volume.valid is not None:
        bad &= volume.valid
    if bad.any():
        raise CaseError(
            f"its image holds NaN or infinity in {int(bad.sum())} of {bad.size} voxels.",
            "Correct the image, or set data.nodata to .nan if NaN means no data.",
        )
