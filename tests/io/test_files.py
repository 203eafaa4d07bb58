"""Small files: whole or not there."""

import json

import pytest

from pipeline.errors import NothingUsableError, StoreError
from pipeline.io.files import (
    digest,
    read_json,
    read_jsonl,
    write_atomic,
    write_jsonl,
    write_together,
)
from pipeline.io.ledger import Ledger
from pipeline.io.location import sha256_of
from pipeline.io.manifest import (
    ManifestRow,
    QuarantineRow,
    SourceFile,
    read_manifest,
    read_quarantine,
    replace_quarantine,
    usable_cases,
    write_manifest,
)
from pipeline.space import voxel_grid


def row(case, split="train", status="complete"):
    sources = (SourceFile(f"images/{case}.png", "image", 12, 34, "ab"),)
    grid = voxel_grid((4, 5)).to_json()
    return ManifestRow(case, case, split, 1, status, "key", f"{case}.zarr", sources, grid)


def test_a_manifest_comes_back_ordered_by_case(tmp_path):
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [row("b"), row("a", split="test")])
    assert read_manifest(path) == [row("a", split="test"), row("b")]
    assert list(json.loads(path.read_text().splitlines()[0]))[:5] == [
        "id",
        "group",
        "split",
        "fold",
        "status",
    ]


def test_usable_cases_are_complete_and_of_the_split(tmp_path):
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [row("a"), row("b", "test"), row("c", status="quarantined")])
    assert [r.id for r in usable_cases(path)] == ["a", "b"]
    assert [r.id for r in usable_cases(path, ["test"])] == ["b"]
    with pytest.raises(NothingUsableError, match="lists no usable case of split val: run"):
        usable_cases(path, ["val"])


def test_a_stage_replaces_its_own_refusals_only(tmp_path):
    path = tmp_path / "quarantine.jsonl"
    replace_quarantine(path, "ingest", [QuarantineRow("b", "ingest", "torn", "copy it")])
    replace_quarantine(path, "predict", [QuarantineRow("a", "predict", "big", "cut it")])
    replace_quarantine(path, "ingest", [QuarantineRow("c", "ingest", "torn", "copy it")])
    assert [(r.case, r.stage) for r in read_quarantine(path)] == [("a", "predict"), ("c", "ingest")]


def test_a_file_that_holds_the_content_is_left_alone(tmp_path):
    path = tmp_path / "folder" / "file"
    write_atomic(path, b"content")
    before = path.stat()
    write_atomic(path, b"content")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    write_atomic(path, b"CONTENT")
    assert path.read_bytes() == b"CONTENT"
    assert list(path.parent.iterdir()) == [path]


def test_the_ledger_remembers_units_by_key(tmp_path):
    ledger = Ledger(tmp_path / "ledger" / "patch.jsonl")
    ledger.record("0", "k", {"voxels": 7})
    again = Ledger(ledger.path)
    assert again.done("0", "k") == {"unit": "0", "key": "k", "voxels": 7}
    assert again.done("0", "other") is None and again.done("1", "k") is None


def test_a_torn_last_line_of_the_ledger_is_not_done_and_is_not_joined_by_the_next(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for unit in "012":
        ledger.record(unit, "k", {})
    content = ledger.path.read_bytes()
    for cut in range(len(content) - 1, content.rfind(b'{"unit": "2"'), -1):
        ledger.path.write_bytes(content[:cut])
        torn = Ledger(ledger.path)
        assert torn.done("1", "k")
        torn.record("3", "k", {})
        assert [r["unit"] for r in read_jsonl(ledger.path)] == ["0", "1", "3"]


def test_a_ledger_that_forgets_starts_anew(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.record("0", "k", {})
    ledger.forget()
    assert ledger.done("0", "k") is None and Ledger(ledger.path).done("0", "k") is None


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    path.write_text('{"a": \n{"a": 2}\n')
    with pytest.raises(StoreError, match=r"line 1 of .*rows.jsonl is not JSON: restore it"):
        read_jsonl(path)


def test_json_that_cannot_be_read_names_its_file(tmp_path):
    with pytest.raises(StoreError, match=r"plan.json cannot be read as JSON .*: run its stage"):
        read_json(tmp_path / "plan.json")


def test_nan_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "rows.jsonl", [{"dice": float("nan")}])


def test_digests_follow_values_and_not_their_order(tmp_path):
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")


def test_files_that_go_together_stay_as_they_were_when_one_cannot_be_written(tmp_path):
    first, second = tmp_path / "a", tmp_path / "file/b"
    first.write_bytes(b"former")
    second.parent.write_bytes(b"no folder")
    with pytest.raises(OSError, match="file"):
        write_together({first: b"new", second: b"new"})
    assert first.read_bytes() == b"former"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file"]
    second = tmp_path / "b"
    write_together({first: b"new", second: b"new"})
    assert first.read_bytes() == second.read_bytes() == b"new"
