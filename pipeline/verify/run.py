"""A run's folder → stores to verify, and what its small files say against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError, StoreError
from pipeline.io.files import read_json, read_jsonl
from pipeline.io.location import is_remote
from pipeline.io.manifest import ManifestRow, read_manifest, read_quarantine
from pipeline.io.store import published_attributes, published_key
from pipeline.model_file import ModelCard, load_model, read_card
from pipeline.publish import CURRENT
from pipeline.publish.version import numbers, read_version, version_name
from pipeline.run import RunDir, RunSettings
from pipeline.verify.findings import Finding
from pipeline.verify.places import look_below, unfinished
from pipeline.verify.stores import StoreToVerify

ANEW = "Delete it, and run `segflow {0}`, which makes it anew."
BACK = "Put it back from a backup, or delete the folder {0} and run `segflow nightly`."


@dataclass(frozen=True)
class RunFound:
    """What there is of a run."""

    stores: tuple[StoreToVerify, ...]
    """Stores whose bytes are to be read."""
    findings: tuple[Finding, ...]
    """What its small files say."""


def look_at_run(settings: RunSettings, run: RunDir) -> RunFound:
    """Look at a run's small files; no voxel is read.

    Args:
        settings: The run's.
        run: Its paths.
    """
    findings = list(_small_files(run))
    if findings:  # nothing that follows can be read
        return RunFound((), tuple(findings))
    rows = read_manifest(run.manifest)
    findings += _volumes(run, rows)
    findings += _models(run)
    findings += _masks(settings, run, rows)
    findings += _versions(run)
    findings += _leftovers(run)
    findings += _quarantined(run)
    return RunFound(tuple(_stores(run, rows)), tuple(findings))


def _small_files(run: RunDir) -> Iterator[Finding]:
    """Files of JSON that cannot be read."""
    folders = (run.root, run.ledger, run.checkpoints, run.promoted, run.retraining)
    found = {path for f in folders for path in f.glob("*.json*" if f == run.root else "**/*.json*")}
    for path in sorted(found):
        try:
            read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
        except StoreError as error:
            yield Finding("damaged", str(path), *_parted(error))


def _parted(error: Exception) -> tuple[str, str]:
    """An error's reason and what to do, which follows its last colon."""
    reason, _, remedy = str(error).rpartition(": ")
    return f"{reason or remedy}.", f"{remedy[:1].upper()}{remedy[1:]}." if reason else ""


def _volumes(run: RunDir, rows: Sequence[ManifestRow]) -> Iterator[Finding]:
    """Cases whose volume store is not the one that the manifest names."""
    if not rows:
        yield Finding("note", str(run.manifest), "no case was taken in yet.", "Run `segflow run`.")
    for row in rows:
        held = published_key(run.volumes / row.store) if row.status == "complete" else row.key
        if held != row.key:
            what = "is gone" if held is None else "is not the one that the manifest names"
            reason = f"the volume store of case {row.id} {what}."
            yield Finding("damaged", str(run.volumes / row.store), reason, "Run `segflow ingest`.")


def _models(run: RunDir) -> Iterator[Finding]:
    """Weights that are not those that their sidecar describes."""
    held = [*run.checkpoints.glob("**/best.pt"), *run.promoted.glob("*/model.pt")]
    for path in sorted(p for p in held if not p.parent.is_symlink()):
        try:
            load_model(path)
        except ModelError as error:
            yield Finding("damaged", str(path), *_parted(error))


def _masks(settings: RunSettings, run: RunDir, rows: Sequence[ManifestRow]) -> Iterator[Finding]:
    """Masks that do not go with their case or model, and cases that have none."""
    refused = {row.case for row in read_quarantine(run.quarantine)}
    for card in _cards(run):
        folder = run.predictions / card.model_id
        if not folder.is_dir():
            continue
        for row in rows:
            mask = folder / f"{row.id}.zarr"
            if row.status != "complete":
                continue
            if mask.is_dir():
                yield from _mask(mask, row, card)
            elif row.split in settings.predict.splits and row.id not in refused:
                yield _absent(run, mask, card)


def _cards(run: RunDir) -> list[ModelCard]:
    """The models that predict: the one trained last, and the one that serves."""
    cards = {}
    for model in (run.model, run.serving.model):
        with suppress(ModelError):  # there is none, or _models has told
            card = read_card(model)
            cards[card.model_id] = card
    return list(cards.values())


def _mask(mask: Path, row: ManifestRow, card: ModelCard) -> Iterator[Finding]:
    about = published_attributes(mask)
    if not about:
        return  # its own examination tells
    remedy = "Run `segflow predict`."
    if about["model"]["weights_sha256"] != card.weights_sha256:
        reason = f"other weights made it than those of {card.model_id}, whose folder it is in."
        yield Finding("damaged", str(mask), reason, ANEW.format("predict"))
    if about["volume"] != row.key:
        reason = f"it is of an earlier version of case {row.id}."
        yield Finding("warning", str(mask), reason, remedy)
    elif about["grid"]["shape"] != row.grid["shape"]:
        met = f"its grid has shape {about['grid']['shape']}, its volume's {row.grid['shape']}."
        yield Finding("damaged", str(mask), met, ANEW.format("predict"))
    for beside in ("objects", "probabilities"):
        store = mask.parent / beside / mask.name
        if store.is_dir() and published_key(store) not in (None, about["key"]):
            yield Finding("warning", str(store), "it is of an earlier mask.", remedy)


def _absent(run: RunDir, mask: Path, card: ModelCard) -> Finding:
    """A case without its mask: lost, if the record says that it was made."""
    done = read_jsonl(run.ledger / "predict" / card.model_id / f"{mask.stem}.jsonl")
    partial = mask.with_name(f".{mask.name}.partial").exists()
    if done and not partial:
        reason = "the record says that this mask was made, and it is gone."
        return Finding("damaged", str(mask), reason, "Run `segflow predict`.")
    return Finding("warning", str(mask), "this mask is not made yet.", "Run `segflow predict`.")


def _versions(run: RunDir) -> Iterator[Finding]:
    """Published versions that lack what their index names."""
    pointer = run.published / CURRENT
    if pointer.is_symlink() and not pointer.exists():
        reason = f"it names {pointer.readlink()}, which is gone."
        yield Finding("damaged", str(pointer), reason, "Run `segflow nightly`.")
    for number in numbers(run.published):
        folder = run.published / version_name(number)
        try:
            version = read_version(folder)
        except StoreError as error:
            yield Finding("damaged", str(folder), f"{error}.", BACK.format(folder.name))
            continue
        for mask in version.masks:
            for place in ("", *mask.companions):
                store = folder / place / f"{mask.case}.zarr"
                if published_key(store) != mask.key:
                    reason = "the version's index names this store, and it is gone or another."
                    yield Finding("damaged", str(store), reason, BACK.format(folder.name))


def _leftovers(run: RunDir) -> Iterator[Finding]:
    for folder in (run.root, run.shared_volumes, run.shared_published):
        if folder is not None and not is_remote(folder):
            yield from map(unfinished, look_below(folder).leftovers)


def _quarantined(run: RunDir) -> Iterator[Finding]:
    for row in read_quarantine(run.quarantine):
        reason = f"quarantined by {row.stage}: {row.reason}"
        yield Finding("note", f"case {row.case}", reason, row.remedy)


def _stores(run: RunDir, rows: Sequence[ManifestRow]) -> Iterator[StoreToVerify]:
    """Every store of the run, and what helps where it is damaged."""
    for row in rows:
        path = run.volumes / row.store
        if row.store and row.status == "complete" and published_key(path) is not None:
            yield StoreToVerify(path, ANEW.format("ingest"))
    if run.patches.is_dir():
        yield StoreToVerify(run.patches, ANEW.format("patch"))
    for path in look_below(run.predictions).stores:
        yield StoreToVerify(path, ANEW.format("predict"))
    for path in look_below(run.inputs).stores:
        yield StoreToVerify(path, ANEW.format("predict --input"))
    for path in look_below(run.published).stores:
        version = path.relative_to(run.published).parts[0]
        yield StoreToVerify(path, BACK.format(version))
