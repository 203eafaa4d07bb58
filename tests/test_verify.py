"""A verification finds what a disk, or a hand, has done to a store or a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import SettingsError
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.store import create_root, partial_path
from pipeline.space import voxel_grid
from pipeline.verify import Finding, verify
from tests.conftest import tree

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "field"))
SHAPE = (4700, 9000)
"""In four shards."""


def write_mask(path: Path, labels: np.ndarray) -> Path:
    """A published mask store."""
    writer = MaskWriter.create(path, MaskSpec(voxel_grid(labels.shape), CLASSES, "key", {}))
    for window in mask_windows(labels.shape, "uint8"):
        writer.write(window, labels[window.slices])
    writer.finish()
    return path


def damage(place: Path, **options: Any) -> list[str]:
    """What a verification finds damaged, in words."""
    found: list[Finding] = [f for f in verify(place, **options).findings if f.level == "damaged"]
    assert all(finding.remedy for finding in found)
    return [finding.reason for finding in found]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask in shards, the last of which has no data and is therefore not stored."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[100:200, ::7] = labels[4500:, 50:80] = 1
    labels[4096:, 8192:] = 255
    return write_mask(tmp_path_factory.mktemp("made") / "scene.zarr", labels)


@pytest.fixture
def mask(sharded: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(sharded, tmp_path / "scene.zarr"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A mask of a few chunks."""
    return write_mask(tmp_path / "small.zarr", np.eye(700, dtype=np.uint8))


def test_a_store_without_damage_is_whole_though_a_shard_is_not_stored(mask: Path) -> None:
    assert not (mask / "0/mask/c/1/1").exists()
    before = tree(mask)
    found = verify(mask)

    assert (found.findings, found.stores) == ((), 1)
    assert found.bytes == sum(map(len, before.values()))
    assert tree(mask) == before


def test_a_flipped_byte_in_a_shard_is_found(mask: Path) -> None:
    shard = mask / "0/mask/c/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)

    (told,) = damage(mask)
    assert told.startswith("0/mask/c/0/0: it cannot be decoded (ValueError: Stored and computed")
    assert damage(mask, read=False) == []


def test_a_shard_cut_short_is_found(mask: Path) -> None:
    shard = mask / "0/mask/c/0/1"
    shard.write_bytes(shard.read_bytes()[:-100])

    listed, read = damage(mask)
    assert listed.startswith("0/mask: its files hold ")
    assert read.startswith("0/mask/c/0/1: it cannot be decoded")


def test_a_lost_shard_is_found_without_reading(mask: Path) -> None:
    (mask / "0/mask/c/0/1").unlink()

    assert damage(mask, read=False) == ["0/mask: 2 of its 3 files are there."]


def test_a_shard_under_another_s_name_is_found(mask: Path) -> None:
    folder = mask / "0/mask/c"
    (folder / "1/0").rename(folder / "1/1")

    assert damage(mask, read=False) == [
        "0/mask: its files have other names or sizes than they were made with."
    ]


@pytest.mark.parametrize("name", ["1/mask/c/0/0", "0/mask/c/1/1", "0/y/c/0"])
def test_a_byte_flipped_in_a_chunk_or_a_coordinate_is_found(small: Path, name: str) -> None:
    content = bytearray((small / name).read_bytes())
    content[-7] ^= 64
    (small / name).write_bytes(content)

    (told,) = damage(small)
    assert told.startswith(f"{name}: it cannot be decoded")


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_metadata_that_is_gone_torn_or_changed_is_found(small: Path) -> None:
    (small / "0/mask/zarr.json").unlink()
    (small / "0/x/zarr.json").write_text('{"zarr_format"')
    edit(small / "1/mask/zarr.json", shape=[350, 340])

    assert damage(small, read=False) == [
        "0/mask/zarr.json: it is absent or damaged (FileNotFoundError).",
        "0/x/zarr.json: it is absent or damaged (JSONDecodeError).",
        "1/mask/zarr.json: it differs from the copy in the store's root.",
        "1/mask: its shape is (350, 340), expected (350, 350).",
    ]


def test_attributes_that_were_edited_are_found(small: Path) -> None:
    root = json.loads((small / "zarr.json").read_text())
    scales = root["attributes"]["ome"]["multiscales"][0]
    scales["datasets"][0]["coordinateTransformations"][0]["scale"] = [2.0, 1.0]
    (small / "zarr.json").write_text(json.dumps(root))
    assert damage(small) == ["its OME-NGFF metadata does not say what its grid says."]

    del root["attributes"]["segflow"]["grid"]["affine"]
    (small / "zarr.json").write_text(json.dumps(root))
    assert damage(small) == ["its metadata cannot be read (KeyError: 'affine')."]


def test_a_label_that_no_class_has_is_found(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[3, 4] = 7
    found = damage(write_mask(tmp_path / "a.zarr", labels))

    assert found == ["0/mask/c/0/0: it holds label 7, which is no class."]


def test_a_store_that_was_never_finished_is_told(tmp_path: Path) -> None:
    final = tmp_path / "a.zarr"
    MaskWriter.create(final, MaskSpec(voxel_grid((40, 50)), CLASSES, "key", {}))

    assert damage(partial_path(final)) == [
        "its status is 'writing', not 'complete': it was never finished."
    ]
    with pytest.raises(SettingsError, match=r"a.zarr is not finished: .a.zarr.partial beside it"):
        verify(final)


def test_a_folder_of_stores_is_verified_with_what_was_left_in_it(small: Path) -> None:
    shutil.copytree(small, small.parent / "deeper" / "b.zarr")
    create_root(small.parent / "c.zarr")
    found = verify(small.parent)

    assert found.stores == 2
    assert [(f.level, Path(f.place).name) for f in found.findings] == [("note", ".c.zarr.partial")]


def test_links_to_the_same_files_are_read_once(small: Path) -> None:
    once = verify(small)
    shutil.copytree(
        small, small.with_name("b.zarr"), copy_function=lambda a, b: Path(b).hardlink_to(a)
    )

    assert verify(small.parent).bytes == once.bytes


def test_a_store_of_an_earlier_segflow_is_whole_but_cannot_tell_losses(small: Path) -> None:
    root = json.loads((small / "zarr.json").read_text())
    del root["attributes"]["segflow"]["stored"]
    (small / "zarr.json").write_text(json.dumps(root))
    (found,) = verify(small).findings

    assert (found.level, "that a file is lost cannot be told" in found.reason) == ("note", True)


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds no store and no run.yaml: give a store"):
        verify(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    (told,) = damage(tmp_path)
    assert "is no store of segflow, or its zarr.json is damaged (KeyError: 'segflow')" in told


def test_a_store_is_opened_by_its_readers_as_before(small: Path) -> None:
    stored = MaskStore(small).attributes["stored"]

    assert stored["0/mask"]["files"] == 4
    assert set(stored) == {"0/mask", "0/x", "0/y", "1/mask", "1/x", "1/y"}
