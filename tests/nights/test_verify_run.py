"""A verification of a run: its cases, masks, models and versions against each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.io.manifest import QuarantineRow, replace_quarantine
from pipeline.run import dump_settings
from pipeline.run.night import run_night
from pipeline.verify import Finding, Verified, verify
from tests.flows.conftest import segflow  # noqa: F401
from tests.flows.discs import CASES, Segflow
from tests.nights.conftest import Dataset


@pytest.fixture(scope="module")
def night(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run after its first night."""
    folder = tmp_path_factory.mktemp("verified") / "dataset"
    shutil.copytree(template, folder, symlinks=True)
    run_night(Dataset(folder, {}).settings)
    return folder


@pytest.fixture
def dataset(night: Path, tmp_path: Path) -> Dataset:
    """A copy of it, whose settings name the copy."""
    shutil.copytree(night, tmp_path / "dataset", symlinks=True)
    made = Dataset(tmp_path / "dataset", {})
    made.run.settings.write_text(dump_settings(made.settings))
    return made


def mask_of(dataset: Dataset, case: str = "disc_1") -> Path:
    """A case's mask."""
    return next(dataset.run.predictions.glob(f"*/{case}.zarr"))


def edit(store: Path, change: Callable[[dict], None]) -> None:
    """Change a store's ``segflow`` attributes."""
    path = store / "zarr.json"
    root = json.loads(path.read_text())
    change(root["attributes"]["segflow"])
    path.write_text(json.dumps(root))


def found(dataset: Dataset, level: str = "damaged") -> list[Finding]:
    """Findings of a level; nothing is read."""
    return [f for f in verify(dataset.run.root, read=False).findings if f.level == level]


def test_a_run_after_its_night_is_whole_and_published_links_are_read_once(night: Path) -> None:
    run = Dataset(night, {}).run
    one = verify(run.predictions).bytes
    whole = verify(run.root)

    assert whole.findings == ()
    assert whole.stores == 3 * CASES + 1  # volumes, masks, published masks, patches
    volumes, patches = (verify(place).bytes for place in (run.volumes, run.patches))
    assert whole.bytes == volumes + patches + one


def test_a_run_may_be_named_by_its_folder_wherever_that_is_now(dataset: Dataset) -> None:
    moved = dataset.run.root.rename(dataset.folder / "moved")

    assert isinstance(verify(moved, read=False), Verified)
    assert not [f for f in verify(moved, read=False).findings if f.level == "damaged"]


def test_a_volume_that_is_gone_or_another_is_named_with_its_case(dataset: Dataset) -> None:
    shutil.rmtree(dataset.run.volumes / "disc_0.zarr")
    edit(dataset.run.volumes / "disc_1.zarr", lambda about: about.update(key="other"))
    told = [(f.reason, f.remedy) for f in found(dataset)]

    assert told == [
        ("the volume store of case disc_0 is gone.", "Run `segflow ingest`."),
        (
            "the volume store of case disc_1 is not the one that the manifest names.",
            "Run `segflow ingest`.",
        ),
    ]


def test_masks_of_other_weights_volumes_and_grids_are_told(dataset: Dataset) -> None:
    edit(mask_of(dataset, "disc_0"), lambda about: about["model"].update(weights_sha256="x"))
    edit(mask_of(dataset, "disc_1"), lambda about: about.update(volume="earlier"))
    edit(mask_of(dataset, "disc_2"), lambda about: about["grid"].update(shape=[64, 63]))

    reasons = [f.reason for f in found(dataset)]
    assert reasons[0].startswith("other weights made it than those of ")
    assert reasons[1] == "its grid has shape [64, 63], its volume's [64, 64]."
    (stale,) = found(dataset, "warning")
    assert stale.reason == "it is of an earlier version of case disc_1."


def test_a_mask_that_was_made_and_is_gone_is_told_from_one_that_was_never_made(
    dataset: Dataset,
) -> None:
    for case in ("disc_0", "disc_1"):
        shutil.rmtree(mask_of(dataset, case))
    next(dataset.run.ledger.glob("predict/*/disc_1.jsonl")).unlink()

    (lost,) = found(dataset)
    assert (Path(lost.place).name, lost.reason) == (
        "disc_0.zarr",
        "the record says that this mask was made, and it is gone.",
    )
    (missing,) = found(dataset, "warning")
    assert (Path(missing.place).name, missing.remedy) == ("disc_1.zarr", "Run `segflow predict`.")


def test_weights_that_are_not_their_sidecar_s_are_told(dataset: Dataset) -> None:
    weights = next(dataset.run.promoted.glob("*/model.pt"))
    weights.write_bytes(weights.read_bytes()[:-200])
    (told,) = found(dataset)

    assert told.place == str(weights)
    assert "are damaged or of another network" in told.reason
    assert told.remedy.startswith("Put them back, or delete")


def test_a_version_that_lacks_a_mask_of_its_index_is_told(dataset: Dataset) -> None:
    shutil.rmtree(dataset.run.published / "v0001" / "disc_3.zarr")
    (told,) = found(dataset)

    assert told.reason == "the version's index names this store, and it is gone or another."
    assert "delete the folder v0001 and run `segflow nightly`" in told.remedy


def test_what_is_told_of_a_damaged_version_helps(dataset: Dataset) -> None:
    shutil.rmtree(dataset.run.published / "v0001" / "disc_3.zarr")
    shutil.rmtree(dataset.run.published / "v0001")
    (dangling,) = found(dataset)
    assert dangling.reason == "it names v0001, which is gone."

    run_night(dataset.settings)
    assert found(dataset) == []


@pytest.mark.parametrize("name", ["plan.json", "manifest.jsonl", "checkpoints/train.json"])
def test_a_small_file_that_is_torn_is_named(dataset: Dataset, name: str) -> None:
    path = dataset.run.root / name
    lines = path.read_text().splitlines()
    lines[0] = lines[0][: len(lines[0]) // 2] + "\x00"
    path.write_text("\n".join(lines))
    (told,) = found(dataset)

    assert told.place == str(path) and told.remedy


def test_what_killed_runs_left_is_named_and_is_no_damage(dataset: Dataset) -> None:
    partial = dataset.run.predictions / mask_of(dataset).parent.name / ".new.zarr.partial"
    partial.mkdir()
    verified = verify(dataset.run.root, read=False)

    assert verified.damaged == 0
    (note,) = verified.findings
    assert (note.level, note.place) == ("note", str(partial))


def test_the_command_ends_with_1_for_damage_and_3_for_quarantined_cases(
    dataset: Dataset,
    segflow: Segflow,  # noqa: F811
) -> None:
    replace_quarantine(
        dataset.run.quarantine,
        "ingest",
        [QuarantineRow("bad", "ingest", "it is torn.", "Mend it.")],
    )
    ended = segflow("verify", dataset.run.root)
    assert ended.code == 3
    assert "note case bad: quarantined by ingest: it is torn. Mend it." in ended.out
    assert ended.last.startswith("complete, 1 case quarantined; whole: 25 stores, ")

    chunk = mask_of(dataset) / "0/mask/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-4] + b"\0\0\0\0")
    ended = segflow("verify", dataset.run.settings, "--json")
    value = json.loads(ended.out)
    assert (ended.code, value["whole"]) == (1, False)
    assert value["findings"][0]["reason"].startswith("0/mask/c/0/0: it cannot be decoded")
    assert ended.last.startswith("failed: 1 place damaged, named above; 25 stores, ")
