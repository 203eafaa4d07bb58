"""From a dataset's folder to its cases: which files belong together. No file is opened."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import CaseError, SettingsError
from pipeline.io.dataset import DataSettings
from pipeline.io.location import Inside, entries, exists, is_remote, locate
from pipeline.io.origin import FOLDERS, VECTORS, Origin, one_file, several
from pipeline.io.readers import case_id, format_suffix
from pipeline.io.readers.dicom.series import find_series

CASE = "{case}"


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case."""

    case: str
    """Case id."""
    image: Origin
    """The image."""
    mask: Origin | None
    """The mask; None for a case to predict."""
    problem: CaseError | None = None
    """Why the case is refused already, before its files are opened."""


def discover(data: DataSettings) -> list[CaseFiles]:
    """The cases of a dataset, ordered by id.

    Raises:
        SettingsError: The folder, or the list it should hold, is not there.
    """
    root = locate(data.root, "data.root")
    if not exists(root, "data.root"):
        raise SettingsError(f"data.root: {root} is not a folder: give the dataset's folder")
    match data.layout:
        case "msd":
            found = _msd_cases(root)
        case "pairs":
            found = _pair_cases(root, data)
        case "dicom":
            found = _dicom_cases(root, data)
    inside = Inside(root)
    kept = (_kept_inside(files, inside) for files in found)
    return sorted(refuse_twins(kept), key=lambda files: files.case)


def discover_images(places: Sequence[Path], data: DataSettings) -> list[CaseFiles]:
    """The images at some files and folders, to predict them.

    A folder is searched as the dataset's images were: for series, or for the file names of
    ``data.images``; where none fits, every file of a known format is an image.

    Raises:
        SettingsError: A place does not exist, or a folder holds no image.
    """
    found = []
    for place in places:
        if not place.exists():
            raise SettingsError(f"--input {place}: there is no such file or folder")
        leaf = not place.is_dir() or place.name.lower().endswith(FOLDERS)
        cases = [_image_file(place, data)] if leaf else _images_in(place, data)
        if not cases:
            raise SettingsError(f"--input {place}: the folder holds no image of a known format")
        found += cases
    return refuse_twins({case.image.paths: case for case in found}.values())


def _image_file(path: Path, data: DataSettings) -> CaseFiles:
    return CaseFiles(case_id(path), one_file(path, item_of(data.image_patterns[0])), None)


def _images_in(folder: Path, data: DataSettings) -> list[CaseFiles]:
    alone = data.model_copy(update={"masks": None})
    if data.layout == "dicom":
        return _dicom_cases(folder, alone)
    names = tuple(pattern.rsplit("/", 1)[-1] for pattern in data.image_patterns)
    if all(CASE in name for name in names):
        fitting = _pair_cases(folder, alone.model_copy(update={"images": names}))
        if fitting:
            return fitting
    return [_image_file(path, data) for path in image_files(folder)]


def _kept_inside(files: CaseFiles, inside: Inside) -> CaseFiles:
    paths = [*files.image.paths, *(files.mask.paths if files.mask is not None else ())]
    try:
        if files.problem is not None or all(inside(path) for path in paths):
            return files
    except (OSError, ValueError) as error:
        problem = CaseError(
            f"it names a file that no file system holds ({error}).",
            "Correct the name in the listing.",
        )
        return CaseFiles(files.case, files.image, files.mask, problem)
    problem = CaseError(
        "it names a file outside the dataset's folder.",
        "Move or copy the file into the folder; links that lead out of it are not followed.",
    )
    return CaseFiles(files.case, files.image, files.mask, problem)


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


# Medical Segmentation Decathlon


def _msd_cases(root: Path) -> list[CaseFiles]:
    listing = root / "dataset.json"
    try:
        content = json.loads(listing.read_text())
        labelled = [(_text(e["image"]), _text(e["label"])) for e in content["training"]]
        test = [_text(e["image"] if isinstance(e, dict) else e) for e in content.get("test", [])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{listing} is not a Decathlon listing ({error!r}): it needs a list `training` of "
            "{image, label}"
        ) from error
    cases = [_listed(root, image, label) for image, label in labelled]
    return cases + [_listed(root, image, None) for image in test]


def _text(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"{name!r} is no file name")
    return name


def _listed(root: Path, image: str, label: str | None) -> CaseFiles:
    paths = [root / PurePosixPath(name) for name in (image, label) if name is not None]
    mask = one_file(paths[1]) if label is not None else None
    return CaseFiles(case_id(paths[0]), one_file(paths[0]), mask)


# Images and masks by folder or pattern


def _pair_cases(root: Path, data: DataSettings) -> list[CaseFiles]:
    found = [find(root, "images", pattern) for pattern in data.image_patterns]
    masks = {} if data.masks is None else find(root, "masks", data.masks)
    if item_of(data.masks or "") is None:
        # {case}.png also fits x_mask.png, which the masks' own pattern claims.
        claimed = {path for paths in masks.values() for path in paths}
        found = [_without(claimed, files) for files in found]
    images = {case: _image(case, found, data) for case in sorted(set().union(*found))}
    return list(_with_masks(images, masks, data))


def _without(claimed: set[Path], files: dict[str, list[Path]]) -> dict[str, list[Path]]:
    kept = {case: [p for p in paths if p not in claimed] for case, paths in files.items()}
    return {case: paths for case, paths in kept.items() if paths}


def _image(
    case: str, found: Sequence[dict[str, list[Path]]], data: DataSettings
) -> tuple[Origin, CaseError | None]:
    """The image of a case, and what is wrong with the set of its files."""
    items = [item_of(pattern) for pattern in data.image_patterns]
    lists = [paths.get(case, []) for paths in found]
    problem = None
    for pattern, paths in zip(data.image_patterns, lists, strict=True):
        if not paths:
            problem = CaseError(
                f"it has no file {pattern.replace(CASE, case)}, but others of its image.",
                "Add the file, or remove the others.",
            )
        elif len(paths) > 1:
            problem = CaseError(
                f"{paths[0].name} and {paths[1].name} are both case {case}.",
                "Rename or remove one of them.",
            )
    first = [(paths[0], item) for paths, item in zip(lists, items, strict=True) if paths]
    files, names = zip(*first, strict=True)
    return Origin(files, names, "channels" if len(found) > 1 else "file"), problem


def _with_masks(
    images: dict[str, tuple[Origin, CaseError | None]],
    masks: dict[str, list[Path]],
    data: DataSettings,
) -> Iterator[CaseFiles]:
    """Give each image its mask; masks without an image become refused cases."""
    if data.masks is None:
        for case, (image, problem) in images.items():
            yield CaseFiles(case, image, None, problem)
        return
    objects = "*" in data.masks
    for case, (image, problem) in images.items():
        paths = masks.get(case, [])
        mask = _mask(paths, item_of(data.masks), objects)
        if not paths and data.unlabelled == "quarantine":
            problem = problem or CaseError(
                f"{image.name} has no mask in {_place(data.masks, case)}.",
                "Add the mask, or set data.unlabelled to predict.",
            )
        elif len(paths) > 1 and not objects:
            problem = problem or CaseError(
                f"{_place(data.masks, case)} holds {len(paths)} masks of case {case}.",
                "Rename or remove all but one of them.",
            )
        yield CaseFiles(case, image, mask, problem)
    for case in sorted(masks.keys() - images.keys()):
        problem = CaseError(
            f"the mask {masks[case][0].name} has no image in {_place(data.images, case)}.",
            "Add the image, or remove the mask.",
        )
        yield CaseFiles(case, one_file(masks[case][0]), None, problem)


def _mask(paths: Sequence[Path], item: str | None, objects: bool) -> Origin | None:
    if not paths:
        return None
    return several(paths, "objects") if objects else one_file(paths[0], item)


def _place(pattern: str | tuple[str, ...], case: str) -> str:
    """A folder or a file's place, in words."""
    first = pattern if isinstance(pattern, str) else pattern[0]
    return first.replace(CASE, case) if CASE in first else f"{first}/"


def item_of(pattern: str) -> str | None:
    """The array inside the files of a pattern: what follows ``::``."""
    return pattern.partition("::")[2] or None


def find(root: Path, key: str, pattern: str) -> dict[str, list[Path]]:
    """Files of each case, by name.

    Args:
        root: The dataset's folder.
        key: ``images`` or ``masks``, for an error.
        pattern: A folder, or a pattern that holds ``{case}``.

    Raises:
        SettingsError: The pattern leads out of the root, or to no folder.
    """
    path = PurePosixPath(pattern.partition("::")[0])
    if path.is_absolute() or ".." in path.parts:
        raise SettingsError(f"data.{key}: {pattern} leaves the dataset's folder {root}")
    found: defaultdict[str, list[Path]] = defaultdict(list)
    if CASE in pattern:
        for case, file in _descend(root, path.parts, None):
            found[case].append(file)
        return found
    folder = root / path
    if not Inside(root)(folder):
        raise SettingsError(f"data.{key}: {pattern} leaves the dataset's folder {root}")
    if not folder.is_dir():
        raise SettingsError(f"data.{key}: {folder} is not a folder")
    for file in image_files(folder, polygons=key == "masks"):
        found[case_id(file)].append(file)
    return found


def _descend(folder: Path, parts: Sequence[str], case: str | None) -> Iterator[tuple[str, Path]]:
    """Files that fit the rest of a pattern, each with its case."""
    head, *rest = parts
    head = head if case is None else head.replace(CASE, _escaped(case))
    wanted = _expression(head)
    for name, is_folder in sorted(entries(folder)):
        met = wanted.fullmatch(name)
        if met is None or name.startswith("."):
            continue
        known = case or met.groupdict().get("case")
        if rest and is_folder:
            yield from _descend(folder / name, rest, known)
        elif not rest and known and (not is_folder or name.lower().endswith(FOLDERS)):
            yield known, folder / name


def _escaped(case: str) -> str:
    # A case id is text, also where it holds a star.
    return "".join(f"[{c}]" if c == "*" else c for c in case)


def _expression(part: str) -> re.Pattern[str]:
    """One component of a pattern as a regular expression."""
    pieces = re.split(r"(\{case\}|\[\*\]|\*)", part)
    named = False
    text = ""
    for piece in pieces:
        if piece == CASE:
            text += "(?P=case)" if named else "(?P<case>.+?)"
            named = True
        else:
            text += {"*": ".*", "[*]": r"\*"}.get(piece, re.escape(piece))
    return re.compile(text)


def image_files(folder: Path, *, polygons: bool = False) -> list[Path]:
    """Files of a known format in a folder, by name; hidden ones (``._x`` of macOS) left out.

    Args:
        folder: The folder.
        polygons: Whether vector labels count.
    """
    return sorted(
        folder / name
        for name, is_folder in entries(folder)
        if format_suffix(Path(name)) is not None
        and not name.startswith(".")
        and (not is_folder or name.lower().endswith(FOLDERS))
        and (polygons or not name.lower().endswith(VECTORS))
    )


# DICOM


def _dicom_cases(root: Path, data: DataSettings) -> list[CaseFiles]:
    if is_remote(root):
        raise SettingsError(f"data.root: {root} is a URL, DICOM series are read from local folders")
    images = {
        series.case: (several(series.paths, "slices", f"series {series.folder}"), series.problem)
        for series in find_series(root, data.dicom_case)
    }
    masks = {} if data.masks is None else find(root, "masks", data.masks)
    return list(_with_masks(images, masks, data))
