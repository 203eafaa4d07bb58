"""What `segflow status` and the report's page say of the nights of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.io.files import write_json, write_jsonl
from pipeline.publish import Version
from pipeline.run.night import Night
from tests.flows.discs import Segflow

MOMENT = "2026-11-{:02}T02:00:00+00:00"


def remember(run: Path, *states: str) -> None:
    """Write nights of the first days of November."""
    rows = [
        Night(started=MOMENT.format(day), known={}).to_json()
        | {"state": state, "sentence": f"{state} [of day {day}]"}
        for day, state in enumerate(states, start=1)
    ]
    run.mkdir(exist_ok=True)
    write_jsonl(run / "nights.jsonl", rows)


def stand(run: Path, day: int, created: str | None = None) -> None:
    """Let v0003 be the current version, made on a day."""
    created = created or MOMENT.format(day).replace("02:00", "02:17")
    version = Version(3, "discs", created, {"id": "m", "weights_sha256": "0"}, {}, ())
    write_json(run / "published" / "v0003" / "index.json", version.to_json())
    (run / "published" / "current").symlink_to("v0003")


@pytest.fixture
def status(segflow: Segflow, discs: Path) -> Any:
    """What a person reads of the last night, and what a machine does."""

    def read() -> tuple[list[str], dict[str, Any] | None]:
        lines = segflow("status", discs).out.splitlines()
        table = max(number for number, line in enumerate(lines) if line.startswith("└"))
        return lines[table + 1 : -1], json.loads(segflow("status", discs, "--json").out)["night"]

    return read


def test_a_damaged_file_hides_no_other_stage(segflow: Segflow, discs: Path) -> None:
    scores = discs.parent / "run" / "scores.json"
    scores.parent.mkdir(exist_ok=True)
    scores.write_text('{"cases": [')
    ended = segflow("status", discs, "--json")
    stages = {row["stage"]: row for row in json.loads(ended.out)["stages"]}
    assert ended.code == 0 and len(stages) == 7
    assert stages["score"]["state"] == "damaged" and str(scores) in stages["score"]["detail"]


def test_status_of_a_run_without_nights_has_no_line_of_them(status: Any) -> None:
    assert status() == ([], None)


def test_status_tells_the_last_night(status: Any, discs: Path) -> None:
    remember(discs.parent / "run", "published", "published")
    stand(discs.parent / "run", 2)
    lines, night = status()
    assert lines == ["last night, Mon 02 Nov 2026, 02:00 UTC: published [of day 2]"]
    assert night == {
        "started": MOMENT.format(2),
        "state": "published",
        "sentence": "published [of day 2]",
        "version": "v0003",
        "published": "2026-11-02T02:17:00+00:00",
        "nights_since": 0,
        "problem": "",
    }


def test_status_counts_the_nights_that_published_nothing(status: Any, discs: Path) -> None:
    remember(discs.parent / "run", "published", "nothing new", "failed")
    stand(discs.parent / "run", 1)
    lines, night = status()
    assert lines == [
        "last night, Tue 03 Nov 2026, 02:00 UTC: failed [of day 3]",
        "nothing published for 2 nights: v0003 of Sun 01 Nov 2026, 02:17 UTC stands",
    ]
    assert night["nights_since"] == 2


def test_the_night_that_published_is_none_of_those_that_did_not(status: Any, discs: Path) -> None:
    run = discs.parent / "run"
    remember(run, "published")
    stand(run, 1, "2026-11-01T02:00:00+00:00")  # a version's moment has whole seconds
    row = json.loads((run / "nights.jsonl").read_text())
    write_jsonl(run / "nights.jsonl", [row | {"started": "2026-11-01T02:00:00.169+00:00"}])
    assert status()[1]["nights_since"] == 0


def test_a_night_that_failed_after_it_published_has_published(status: Any, discs: Path) -> None:
    remember(discs.parent / "run", "published", "failed")
    stand(discs.parent / "run", 2)
    lines, night = status()
    assert lines == ["last night, Mon 02 Nov 2026, 02:00 UTC: failed [of day 2]"]
    assert night["nights_since"] == 0


def test_status_says_that_nothing_is_published_yet(status: Any, discs: Path) -> None:
    remember(discs.parent / "run", "failed")
    lines, night = status()
    assert lines[1:] == ["no version is published yet"]
    assert (night["version"], night["nights_since"]) == (None, None)


def test_a_damaged_version_does_not_keep_status_from_the_rest(status: Any, discs: Path) -> None:
    remember(discs.parent / "run", "published")
    stand(discs.parent / "run", 1)
    write_json(discs.parent / "run" / "published" / "v0003" / "index.json", {"format": 1})
    lines, night = status()
    assert lines[0].endswith("published [of day 1]")
    assert "index.json is absent or damaged" in lines[1] and lines[1] == night["problem"]


def test_the_report_of_a_run_has_its_nights(segflow: Segflow, discs: Path) -> None:
    assert segflow("ingest", discs).code == 0
    remember(discs.parent / "run", "published")
    assert segflow("report", discs).code == 0
    page = (discs.parent / "run" / "report" / "index.html").read_text()
    assert '<p class="night">Published [of day 1]</p>' in page
