"""A mask store as an exporter gets it: whole, with what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.export.codes import read_codes
from pipeline.export.settings import ExportSettings
from pipeline.io.companion_store import Companion, ObjectStore
from pipeline.io.location import is_remote, sha256_of
from pipeline.io.mask_store import MaskStore
from pipeline.io.store import published_key
from pipeline.io.volume_store import VolumeStore
from pipeline.io.wholeness import Flaw, examine, read_stored


def open_export(path: Path, target: Path, settings: ExportSettings) -> Export:
    """A mask to export, its store looked over: a lost file would read as no data.

    Args:
        path: The mask store.
        target: The file to write, under its final name.
        settings: How.

    Raises:
        StoreError: There is no mask store, or it is not complete.
        CaseError: It is damaged.
    """
    mask = MaskStore(path)
    _refuse(examine(path).flaws)
    beside = Companion.objects().path(path)
    return Export(
        mask=mask,
        target=target,
        volume=_volume(mask, settings.volumes),
        objects=ObjectStore(beside) if published_key(beside) is not None else None,
        source=settings.source,
        nodata=settings.nodata,
        codes=read_codes(settings.codes),
    )


def refuse_damaged(path: Path, cause: Exception) -> None:
    """Read all of a store whose export went wrong, and refuse it where that is the reason.

    What libraries say of damaged voxels is their own affair, so the voxels themselves are asked.

    Raises:
        CaseError: A file of it cannot be read.
    """
    _refuse([flaw for part in examine(path).stored for flaw in read_stored(part)], cause)


def _refuse(flaws: Sequence[Flaw], cause: Exception | None = None) -> None:
    if flaws:
        where, what = flaws[0].where or "the store", flaws[0].what
        met = f"its store is damaged: {where}: {what}."
        raise CaseError(met, "Predict the case again.") from cause


def refuse_source(export: Export, final: Path) -> None:
    """Refuse to put a mask in the place of the image or the truth that it comes from.

    Whoever moved the file is known by its content, whoever edited it by its place.

    Raises:
        CaseError: The file that stands there is one of the mask's sources.
    """
    if not final.is_file():
        return
    sources = [
        (source["path"].split("::")[0], source["sha256"])
        for source in export.mask.attributes.get("sources", ())
    ]
    sums = [sha256 for path, sha256 in sources if Path(path).name == final.name]
    root = export.source
    places = [] if root is None else [root, *(root / path for path, _ in sources)]
    if final.resolve() in (p.resolve() for p in places) or (sums and sha256_of(final) in sums):
        raise CaseError(
            f"{final} is what the mask was made from, and would be replaced.",
            "Export to another folder.",
        )


def _volume(mask: MaskStore, volumes: Path | None) -> VolumeStore | None:
    """The volume store that a mask was made from, beside its run or where it was said to be."""
    path = mask.path if is_remote(mask.path) else mask.path.absolute()
    name, above = path.name, path.parents
    # <run>/predictions/<model>/<case>.zarr, <run>/published/<version>/<case>.zarr, and a level
    # deeper for images that are none of the dataset.
    places = [run / part / name for run in above[2:4] for part in ("volumes", "inputs")]
    for place in places if volumes is None else [volumes / name]:
        if published_key(place) == mask.attributes.get("volume", ""):
            return VolumeStore(place)
    return None
