"""From a folder to a run.yaml: what the dataset is, and what its mask values mean."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipeline.commented_yaml import commented_yaml
from pipeline.errors import CaseError, SettingsError
from pipeline.io.cases import ClassSettings, DataSettings, discover, image_files
from pipeline.io.files import write_atomic
from pipeline.io.readers import READERS, case_id, open_source
from pipeline.run import RunSettings
from pipeline.space import aligned_windows

MOST_VALUES = 32
"""Different values of a mask; what holds more is an image."""
MOST_MASKS, MOST_VOXELS = 300, 10**9
"""Masks that are read, and voxels after which no further one is begun: about a minute."""
MOST_FOLDERS = 500
KINDS = {
    "image": re.compile(r"(image|img)s?(tr)?|x|(input|scan|tile|scene|volume|photo|picture)s?|raw"),
    "mask": re.compile(
        r"(mask|label|lbl|annotation|annot|target|seg|segmentation)s?|labelstr|y|gt|(ground)?truth"
        r"|manual"
    ),
}
"""A folder whose name, or a word of it, is one of these, holds images or masks."""
SUPPORTED = (
    "supported are a folder with a dataset.json of Medical Segmentation Decathlon, and two folders "
    f"whose images and masks have the same names ({', '.join(READERS)})"
)


@dataclass(frozen=True)
class Recognised:
    """What a folder was found to be."""

    settings: RunSettings
    """Settings of a run on it."""
    summary: list[str]
    """What was found, a line each."""


@dataclass(frozen=True)
class Found:
    """A recognised dataset."""

    data: DataSettings
    """Its settings."""
    summary: list[str]
    """What was found, a line each."""
    notes: dict[str, list[str]]
    """Comments for run.yaml, by key."""


def init(source: Path, output: Path) -> Recognised:
    """Recognise a dataset and write a complete, commented run.yaml for it.

    Args:
        source: The dataset's folder.
        output: The file to write; the run is named after it.

    Raises:
        SettingsError: The folder is no training set that segflow knows, with what was found.
    """
    root = source.resolve()
    if not root.is_dir():
        raise SettingsError(f"{source} is not a folder: give the dataset's folder")
    inner = [p.parent.name for p in sorted(root.glob("*/dataset.json"))]
    if inner and not (root / "dataset.json").is_file():
        raise SettingsError(
            f"{root} holds datasets in folders of its own ({', '.join(inner)}): give one"
        )
    found = _decathlon(root) if (root / "dataset.json").is_file() else _pairs(root)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.stem).strip("._-") or "run"
    settings = RunSettings(name=name, run_dir=f"runs/{name}", data=found.data)
    header = [f"Made by `segflow init {source}`. Every setting stands here with its value."]
    text = commented_yaml(settings, [*header, *found.summary], found.notes)
    write_atomic(output, text.encode())
    return Recognised(settings, found.summary)


# Medical Segmentation Decathlon and nnU-Net


def _decathlon(root: Path) -> Found:
    listing = root / "dataset.json"
    try:
        content = json.loads(listing.read_text())
        if not isinstance(content["labels"], dict) or not isinstance(content["training"], list):
            raise TypeError("wrong types")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{listing} lacks what a Decathlon dataset.json holds ({error!r}): a list `training` "
            "of {image, label} and a mapping `labels`; add them, nnU-Net's own file lacks the list"
        ) from error
    classes, ignored = _named_classes(content["labels"], listing)
    channels = content.get("modality") or content.get("channel_names") or {}
    names = channels.values() if isinstance(channels, dict) else [channels]
    ct = [str(name).strip().lower() == "ct" for name in names]
    data = _data(
        root=str(root),
        layout="msd",
        classes=classes,
        ignore_values=ignored,
        modality="ct" if ct and all(ct) else "other",
    )
    cases = discover(data)
    labelled = sum(case.mask is not None for case in cases)
    if not labelled:
        raise SettingsError(f"{listing} lists no case with a label: training needs some")
    absent = sum(not p.is_file() for c in cases for p in (c.image, c.mask) if p is not None)
    summary = [
        f"Decathlon dataset {content.get('name', root.name)}: {labelled} labelled cases, "
        f"{len(cases) - labelled} to predict",
        _classes_line(data),
    ]
    if absent:
        summary.append(f"{absent} of the files it lists are missing: segflow check names them")
    return Found(data, summary, {"data.classes": ["Names and values as dataset.json has them."]})


def _named_classes(
    labels: dict[str, Any], listing: Path
) -> tuple[tuple[ClassSettings, ...], tuple[int, ...]]:
    """Classes of ``{"0": "background"}`` (Decathlon) or ``{"background": 0}`` (nnU-Net v2)."""
    by_value = all(str(key).lstrip("-").isdigit() for key in labels)
    pairs = labels.items() if by_value else ((value, name) for name, value in labels.items())
    try:
        named = sorted((int(value), str(name).strip()) for value, name in pairs)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{listing}: `labels` holds {labels}, where each class has one whole number: regions "
            "of several values are not supported, list the values as classes of their own"
        ) from error
    ignored = tuple(value for value, name in named if name.lower() == "ignore" or value < 0)
    classes = tuple(
        ClassSettings(name=name, values=(value,), background=value == 0)
        for value, name in named
        if value not in ignored
    )
    return classes, ignored


# Two folders of images and masks


@dataclass(frozen=True)
class Folder:
    """A folder that holds files of known formats."""

    name: str
    """Path under the dataset's root."""
    files: dict[str, Path]
    """File by case id."""

    @property
    def kind(self) -> str | None:
        """``image`` or ``mask`` by the folder's name; None where it does not tell."""
        last = self.name.lower().rsplit("/", 1)[-1]
        words = {last, *re.split(r"[^a-z0-9]+", last)}
        kinds = {k for k, names in KINDS.items() if any(map(names.fullmatch, words))}
        return kinds.pop() if len(kinds) == 1 else None


def _pairs(root: Path) -> Found:
    folders = [folder for folder in _folders(root) if folder.files]
    images, masks = _roles(root, *_best_pair(root, folders))
    both = images.files.keys() & masks.files.keys()
    survey = _survey([masks.files[case] for case in sorted(both)])
    classes, ignored, notes = _valued_classes(survey, masks.name)
    data = _data(
        root=str(root),
        layout="pairs",
        images=images.name,
        masks=masks.name,
        classes=classes,
        ignore_values=ignored,
    )
    summary = [
        f"images in {images.name}/ and masks in {masks.name}/: {len(both)} pairs by name",
        _classes_line(data),
    ]
    for one, other, what in ((images, masks, "mask"), (masks, images, "image")):
        if lone := sorted(one.files.keys() - other.files.keys()):
            summary.append(
                f"{len(lone)} files in {one.name}/ have no {what} and will be quarantined, the "
                f"first {one.files[lone[0]].name}"
            )
    if survey.damaged:
        summary.append(f"{survey.damaged} masks could not be read: segflow check says why")
    return Found(data, summary, notes)


def _folders(root: Path) -> Iterator[Folder]:
    """The root and the folders one and two levels below it, hidden ones left out."""
    below = (p for pattern in ("*", "*/*") for p in sorted(root.glob(pattern)))
    paths = (p for p in below if p.is_dir() and "/." not in f"/{p.relative_to(root).as_posix()}")
    for path, _ in zip([root, *paths], range(MOST_FOLDERS), strict=False):
        name = path.relative_to(root).as_posix()
        yield Folder(name, {case_id(file): file for file in image_files(path)})


def _best_pair(root: Path, folders: Sequence[Folder]) -> tuple[Folder, Folder]:
    """The two folders that share most names; those whose own names tell them apart come first."""
    by_case: dict[str, list[int]] = {}
    for number, folder in enumerate(folders):
        for case in folder.files:
            by_case.setdefault(case, []).append(number)
    shared = Counter(pair for places in by_case.values() for pair in combinations(places, 2))
    kinds = {pair: {folders[n].kind for n in pair} for pair in shared}
    fitting = [pair for pair in shared if kinds[pair] not in ({"image"}, {"mask"})]
    if not fitting:
        raise SettingsError(_no_pair(root, folders))
    told = {pair: (kinds[pair] == {"image", "mask"}, len(kinds[pair])) for pair in fitting}
    first, second = max(fitting, key=lambda pair: (*told[pair], shared[pair]))
    return folders[first], folders[second]


def _no_pair(root: Path, folders: Sequence[Folder]) -> str:
    images = [f for f in folders if f.kind == "image"]
    masks = [f for f in folders if f.kind == "mask"]
    if len(folders) == 1:
        return (
            f"{root} holds {_inventory(root)} and no masks, which training needs: put masks of the "
            "same names into a second folder; a model trained elsewhere predicts these images with "
            "`segflow predict run.yaml --input`"
        )
    if len(images) == 1 == len(masks):
        example = " and ".join(next(iter(f.files.values())).name for f in (images[0], masks[0]))
        return (
            f"no file in {masks[0].name}/ is named like one in {images[0].name}/ ({example}): "
            "rename them so that an image and its mask differ in the format's suffix only"
        )
    return f"{root} holds {_inventory(root)}, which is no known dataset: {SUPPORTED}"


def _inventory(root: Path) -> str:
    """What lies in a folder and one level below, by suffix, for an error."""
    files = [p for pattern in ("*", "*/*") for p in root.glob(pattern) if p.is_file()]
    counts = Counter(p.suffix.lower() or "suffix-less" for p in files)
    kinds = [f"{n} {suffix} file{'s' * (n > 1)}" for suffix, n in counts.most_common(4)]
    inner = sum(p.is_dir() for p in root.iterdir())
    folders = [f"{inner} folder{'s' * (inner > 1)}"] if inner else []
    return ", ".join([*kinds, *folders]) or "nothing"


def _roles(root: Path, one: Folder, other: Folder) -> tuple[Folder, Folder]:
    """Which of two folders holds the images and which the masks: by name, else by content."""
    kinds = one.kind, other.kind
    if kinds == (None, None):
        both = sorted(one.files.keys() & other.files.keys())[:3]
        labels = [all(_holds_labels(f.files[case]) for case in both) for f in (one, other)]
        if labels[0] == labels[1]:
            looks = "masks" if labels[0] else "images"
            raise SettingsError(
                f"{one.name}/ and {other.name}/ in {root} share names, and both look like {looks}: "
                "name the folders images and masks"
            )
        kinds = ("mask", None) if labels[0] else (None, "mask")
    swap = kinds[0] == "mask" or kinds[1] == "image"
    return (other, one) if swap else (one, other)


def _holds_labels(path: Path) -> bool:
    """Whether a file holds few whole numbers, one per voxel."""
    try:
        values = _values(path)[0]
    except CaseError:
        return False
    return len(values) <= MOST_VALUES and bool(np.all(values == np.rint(values)))


# What the values of masks mean


@dataclass(frozen=True)
class Survey:
    """The values that masks hold."""

    masks: dict[int, int]
    """Masks that hold a value, by value."""
    missing: set[int]
    """Values that the files themselves declare to be no data."""
    nan: int
    """Masks that hold NaN."""
    read: int
    """Masks that were read."""
    damaged: int
    """Masks that could not be read."""
    of: int
    """Masks there are."""


def _survey(paths: Sequence[Path]) -> Survey:
    """Read masks, evenly spread over the dataset, for their values.

    Raises:
        SettingsError: None can be read, or what they hold are no class numbers.
    """
    step = max(1, -(-len(paths) // MOST_MASKS))
    counts: Counter[int] = Counter()
    missing: set[int] = set()
    read = damaged = nan = voxels = 0
    complaint = ""
    for path in paths[::step]:
        if voxels > MOST_VOXELS:
            break
        try:
            values, declared, size = _values(path)
        except CaseError as error:
            damaged, complaint = damaged + 1, str(error)
            continue
        read, voxels = read + 1, voxels + size
        nan += bool(np.isnan(values).any())
        numbers = values[~np.isnan(values)]
        _refuse_images(path, numbers)
        counts.update(int(v) for v in numbers)
        missing |= {int(v) for v in declared[~np.isnan(declared)]}
        if len(counts) > MOST_VALUES:
            raise SettingsError(_too_many(path.parent.name + "/", len(counts)))
    if not read:
        raise SettingsError(f"no mask can be read; {complaint}")
    return Survey(dict(sorted(counts.items())), missing, nan, read, damaged, len(paths))


def _values(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """Different values of a mask, those that its file declares to be no data, and its size.

    Raises:
        CaseError: The file is damaged or no mask.
    """
    source = open_source(path, "mask")
    if source.channels != 1:
        raise CaseError(f"{path.name} has {source.channels} channels.", "A mask has one.")
    shape = source.grid.shape
    met, declared = set(), set()
    for window in aligned_windows(shape, (4096, 4096) if len(shape) == 2 else (256,) * 3):
        volume = source.read(window)
        met.update(np.unique(volume.array).tolist())
        if volume.valid is not None:
            declared.update(np.unique(volume.array[0][~volume.valid]).tolist())
    found = (np.array(sorted(values), dtype=np.float64) for values in (met, declared))
    return next(found), next(found), int(np.prod(shape))


def _refuse_images(path: Path, values: np.ndarray[Any, Any]) -> None:
    place = f"{path.parent.name}/{path.name}"
    if len(values) > MOST_VALUES:
        raise SettingsError(_too_many(place, len(values)))
    if (broken := values[values != np.rint(values)]).size:
        raise SettingsError(
            f"{place} holds the value {broken[0]:g}: class numbers are whole; is it an image, or a "
            "map of probabilities?"
        )


def _too_many(place: str, count: int) -> str:
    return (
        f"{place} holds {count} different values, a mask at most {MOST_VALUES}: it looks like an "
        "image, or like a mask that JPEG or resampling has blurred; name the folders images and "
        "masks, and save masks as PNG, TIFF or NIfTI"
    )


def _valued_classes(
    survey: Survey, folder: str
) -> tuple[tuple[ClassSettings, ...], tuple[int, ...], dict[str, list[str]]]:
    """Classes, values to ignore, and comments that say why."""
    declared = {v for v in survey.missing if v != 0}
    ignored = tuple(v for v in survey.masks if v < 0 or v in declared)
    values = [v for v in survey.masks if v not in ignored]
    if len(values) < 2:
        raise SettingsError(
            f"the {survey.read} masks read in {folder}/ hold only the value "
            f"{', '.join(map(str, values)) or 'no data'}: training needs at least two classes"
        )
    single = values[0] == 0 and len(values) == 2
    classes = tuple(
        ClassSettings(name=_class_name(v, single), values=(v,), background=v == 0) for v in values
    )
    met = ", ".join(f"{v} in {n}" for v, n in survey.masks.items())
    notes = {"data.classes": [f"Found in {survey.read} of {survey.of} masks: value {met}."]}
    if 255 in values and len(values) > 2:
        notes["data.classes"].append(
            '255 often means "not annotated": then remove its class and set ignore_values: [255].'
        )
    if ignored:
        reason = "negative, or declared to be no data by the files"
        notes["data.ignore_values"] = [f'Taken for "not annotated", since they are {reason}.']
    if survey.nan:
        notes.setdefault("data.ignore_values", []).append(
            f"NaN, met in {survey.nan} masks, is never a class and always ignored."
        )
    return classes, ignored, notes


def _class_name(value: int, single: bool) -> str:
    if value == 0:
        return "background"
    return "foreground" if single else f"class_{value}"


def _data(**fields: Any) -> DataSettings:
    try:
        return DataSettings(**fields)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"the dataset's classes cannot be used: {said}") from error


def _classes_line(data: DataSettings) -> str:
    classes = ", ".join(f"{c.name} ({', '.join(map(str, c.values))})" for c in data.classes)
    ignored = ", ".join(map(str, data.ignore_values))
    return f"classes: {classes}" + (f"; ignored: {ignored}" if ignored else "")
