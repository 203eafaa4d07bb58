"""From a folder to a run.yaml: every layout is tried, from the surest to the vaguest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.commented_yaml import commented_yaml
from pipeline.errors import SettingsError
from pipeline.init import alone, containers, decathlon, dicom, objects, pairs
from pipeline.init.found import Found, group_hint, merged
from pipeline.init.listing import LISTING
from pipeline.init.tree import Tree, look
from pipeline.io.files import write_atomic
from pipeline.io.location import is_remote, locate
from pipeline.io.origin import FOLDERS, VECTORS
from pipeline.io.readers import CONTAINERS, READERS
from pipeline.run import RunSettings

SUPPORTED = (
    "supported are a folder with a dataset.json of Medical Segmentation Decathlon or nnU-Net, "
    "images and masks of the same names in two folders, or side by side with a word (mask, label, "
    "seg, gt) in the name, a folder per case, one mask per object (DSB2018), DICOM series, and "
    "files that hold image and mask; formats "
    f"{', '.join(dict.fromkeys((*READERS, *CONTAINERS, *VECTORS)))}"
)


@dataclass(frozen=True)
class Recognised:
    """What a folder was found to be."""

    settings: RunSettings
    """Settings of a run on it."""
    summary: list[str]
    """What was found, a line each."""


def init(source: str | Path, output: Path) -> Recognised:
    """Recognise a dataset and write a complete, commented run.yaml for it.

    Args:
        source: The dataset's folder, a path or an fsspec URL.
        output: The file to write; the run is named after it.

    Raises:
        SettingsError: The folder is no dataset that segflow knows, with what was found.
    """
    found = recognise(_root(source))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.stem).strip("._-") or "run"
    settings = RunSettings(name=name, run_dir=f"runs/{name}", data=found.data)
    header = [f"Made by `segflow init {source}`. Every setting stands here with its value."]
    hint = group_hint(found.cases)
    notes = merged(found.notes, {"data.group": [hint]} if hint else {})
    text = commented_yaml(settings, [*header, *found.summary], notes)
    write_atomic(output, text.encode())
    return Recognised(settings, found.summary)


def _root(source: str | Path) -> Path:
    place = locate(source, "SOURCE")
    root = place if is_remote(place) else place.resolve()
    if not root.is_dir():
        raise SettingsError(f"{source} is not a folder: give the dataset's folder")
    if root.name.lower().endswith(FOLDERS):
        raise SettingsError(f"{source} is one image: give the folder that holds it")
    return root


def recognise(root: Path) -> Found:
    """What a folder is.

    Raises:
        SettingsError: It is no dataset that segflow knows, with what was found.
    """
    tree = look(root)
    _refuse_collection(tree)
    found = decathlon.recognise(tree) or objects.recognise(tree)
    if found is not None:
        return found
    scans = dicom.find_scans(tree)
    rest = dicom.without_slices(tree, scans)
    found = dicom.with_named_masks(rest, scans) if scans is not None else None
    found = found or pairs.recognise(rest) or containers.recognise(rest)
    # What can be trained on comes before what cannot.
    if found is None and scans is not None:
        found = dicom.alone(rest, scans)
    found = found or alone.recognise(rest)
    if found is None:
        raise SettingsError(_unknown(tree))
    return found


def _refuse_collection(tree: Tree) -> None:
    inner = [f.name for f in tree.folders if len(f.parts) == 1 and LISTING in f.others]
    if inner and LISTING not in tree.folders[0].others:
        raise SettingsError(
            f"{tree.root} holds datasets in folders of its own ({', '.join(inner)}): give one"
        )


def _unknown(tree: Tree) -> str:
    images = [f for f in tree.filled if tree.kind(f) == "image"]
    masks = [f for f in tree.filled if tree.kind(f) == "mask"]
    if len(images) == 1 == len(masks):
        example = " and ".join(f.files[0].name for f in (images[0], masks[0]))
        return (
            f"no file in {masks[0].name}/ is named like one in {images[0].name}/ ({example}): "
            "rename them so that an image and its mask differ in the format's suffix, or in a word "
            "before or after the case's name"
        )
    return f"{tree.root} holds {tree.inventory}, which is no known dataset: {SUPPORTED}"
