"""``segflow compare``: what it prints, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.comparison import compare
from tests.flows.discs import Segflow
from tests.test_comparison import scores_of


@pytest.fixture
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Dice of 20 cases and 2 classes; B is better in most."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 0.9, (20, 2))
    return a, a + rng.normal(0.03, 0.02, a.shape)


@pytest.fixture
def folders(tables, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with scores.json."""
    found = []
    for name, table in zip("ab", tables, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "scores.json").write_text(json.dumps(scores_of(table)))
        found.append(folder)
    return found[0], found[1]


def test_the_command_ends_with_the_verdict(segflow: Segflow, folders):
    found = segflow("compare", *folders)

    assert found.code == 0
    assert found.last.startswith("complete: B is better by 0.0")
    assert "Gained most" in found.out and "Lost most" in found.out


def test_the_command_gives_the_same_as_json(segflow: Segflow, folders, tables):
    found = json.loads(segflow("compare", *folders, "--json").out)
    ours = compare(*map(scores_of, tables))

    assert found["comparison"]["overall"]["p"] == ours.overall.p
    assert len(found["comparison"]["changes"]) == len(ours.changes)
    assert found["a"]["model_id"] == "unet-1"


def test_a_published_folder_stands_for_its_current_version(segflow: Segflow, folders, tmp_path):
    published = tmp_path / "published"
    published.mkdir()
    (published / "current").symlink_to(folders[0])

    assert segflow("compare", published, folders[0] / "scores.json").code == 0


@pytest.mark.parametrize(
    ("content", "met"),
    [
        ("{}", "is no scores.json: `segflow score` writes one in its run"),
        ("[1]", "is no scores.json: `segflow score` writes one in its run"),
        ("case,dice", "is no scores.json: Expecting value: line 1"),
    ],
)
def test_a_file_that_is_no_scores_json_is_wrong_usage(segflow: Segflow, folders, content, met):
    (folders[1] / "scores.csv").write_text(content)
    found = segflow("compare", folders[0], folders[1] / "scores.csv")

    assert found.code == 2
    assert f"b/scores.csv {met}" in found.last


def test_a_run_without_scores_is_wrong_usage(segflow: Segflow, folders, tmp_path):
    found = segflow("compare", folders[0], tmp_path / "nothing")

    assert found.code == 2
    assert "nothing has no scores" in found.last
