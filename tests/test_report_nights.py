"""What the report tells of the nights."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipeline.drift import Flag
from pipeline.io.files import write_jsonl
from pipeline.run.night import Night, Refused
from tests.test_report import HOSTILE, FakeRun, Page

FIRST = datetime(2026, 11, 1, 2, 0, 3, tzinfo=UTC)


def started(number: int) -> str:
    return (FIRST + timedelta(days=number)).isoformat()


def night(number: int, sentence: str = "nothing new: v0001 stands", **found: Any) -> dict[str, Any]:
    """A row as a night writes it."""
    row = Night(started=started(number), known={}).to_json()
    return row | {"state": "nothing new", "version": "v0001", "sentence": sentence} | found


def refused(case: str, since: int) -> dict[str, str]:
    return asdict(Refused(case, "ingest", f"{case} is torn.", "Copy it anew.", started(since)))


def flags(case: str | None, *said: str) -> list[dict[str, Any]]:
    about = case or "the new cases as a whole"
    return [asdict(Flag(case, "a quantity", 0.0, (1.0, 2.0), f"{about}: {s}")) for s in said]


def written(folder: Path, *rows: dict[str, Any]) -> tuple[str, FakeRun]:
    """The page, and the run it is of."""
    run = FakeRun(folder)
    run.finish(log=False, card=False)
    write_jsonl(folder / "nights.jsonl", list(rows))
    return run.write_report(), run


def section(text: str) -> str:
    """The part of a page that tells of the nights."""
    Page(text)  # all tags close
    return text.split('<section id="nights">')[1].split("</section>")[0]


def told(text: str) -> dict[str, str]:
    """What the last night found, by label, as a person reads it."""
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", section(text), re.DOTALL)
    return {label: plain(what) for label, what in pairs}


def plain(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).replace(" :", ":").split())


def nights_listed(text: str) -> list[list[str]]:
    return Page(section(text)).rows[1:]


def test_a_run_without_nights_says_nothing_of_them(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.finish(log=False, card=False)
    text = run.write_report()
    assert 'id="nights"' not in text and ".found" not in text
    assert "Last night" not in run.markdown


def test_the_last_night_comes_first_in_words(tmp_path: Path) -> None:
    text, run = written(tmp_path, night(0, "published v0001: 8 added"), night(1, "failed: a < b"))
    found = section(text)
    assert found.index("Failed: a &lt; b") < found.index("Published v0001: 8 added")
    assert f'<time datetime="{started(1)}">Mon 02 Nov 2026, 02:00 UTC</time>' in found
    assert "## Last night\n\nMon 02 Nov 2026, 02:00 UTC: Failed: a \\< b\n" in run.markdown
    assert "- Sun 01 Nov 2026, 02:00 UTC: published v0001: 8 added\n" in run.markdown


def test_cases_that_came_and_went_are_named(tmp_path: Path) -> None:
    changes = {"new": ["a", "b"], "changed": ["c"], "vanished": ["d", "e"]}
    text, run = written(
        tmp_path, night(0, state="published", removed={"e": "its files are gone"}, **changes)
    )
    assert told(text) == {
        "No longer published": "e: its files are gone",
        "Files gone": "d",
        "New": "a, b",
        "Changed": "c",
    }
    for line in ("No longer published: e: its files are gone", "Files gone: d", "New: a, b"):
        assert f"\n- {line}\n" in run.markdown


@pytest.mark.parametrize("state", ["nothing new", "failed"])
def test_what_an_earlier_version_removed_is_not_told_of_this_night(
    tmp_path: Path, state: str
) -> None:
    text, _ = written(tmp_path, night(0, state=state, removed={"e": "x"}, vanished=["e"]))
    assert told(text) == {"Files gone": "e"}


def test_many_cases_are_counted(tmp_path: Path) -> None:
    names = [f"n{i:04}" for i in range(1500)]
    bad = [refused(f"q{i:02}", 0) for i in range(12)]
    text, run = written(tmp_path, night(0, new=names, quarantined=bad))
    assert told(text)["New"].endswith("n0018, n0019 and 1,480 more")
    assert told(text)["Quarantined tonight"].endswith("q09: q09 is torn. Copy it anew. and 2 more")
    assert "n0020" not in text and "n0019 and 1,480 more\n" in run.markdown


def test_cases_refused_tonight_have_their_reason_and_older_ones_their_day(tmp_path: Path) -> None:
    rows = [night(0), night(3, quarantined=[refused("old", 0), refused("torn", 3)])]
    text, run = written(tmp_path, *rows)
    assert told(text) == {
        "Quarantined tonight": "torn: torn is torn. Copy it anew.",
        "Quarantined before": "old (since 01 Nov 2026)",
    }
    assert "\n- Quarantined tonight: torn: torn is torn. Copy it anew.\n" in run.markdown
    assert "\n- Quarantined before: old (since 01 Nov 2026)\n" in run.markdown


def test_a_case_has_its_first_sign_of_drift_in_sight_and_the_others_folded(tmp_path: Path) -> None:
    drift = [*flags(None, "darker."), *flags("a", "first.", "second.", "third."), *flags("b", "x.")]
    text, run = written(tmp_path, night(0, state="published", drift=drift))
    found = told(text)["5 signs of drift"]
    assert "The new cases as a whole: darker. a: first. 2 more signs second. third." in found
    assert found.endswith("b: x.")
    folded = re.findall(r"<details>(.*?)</details>", section(text), re.DOTALL)
    assert [plain(f) for f in folded] == ["2 more signs second. third."]
    assert "\n- Drift: a: first. (and 2 more signs)\n" in run.markdown


def test_drift_of_many_cases_is_on_the_page_and_out_of_the_way(tmp_path: Path) -> None:
    drift = [flag for i in range(40) for flag in flags(f"d{i:02}", f"sign of {i}.")]
    text, run = written(tmp_path, night(0, state="published", drift=drift))
    seen, folded = section(text).split("<details>")
    assert "sign of 9." in seen and "sign of 10." not in seen
    assert "30 more cases" in folded and "sign of 39." in folded
    assert "\n- Drift: 30 more cases, see the page\n" in run.markdown
    assert "sign of 10." not in run.markdown


def test_drift_of_the_version_that_stands_outlives_a_night_that_published_nothing(
    tmp_path: Path,
) -> None:
    before = night(0, state="published", drift=flags("older", "x."))
    last = night(1, state="published", drift=flags("a", "dark."))
    text, run = written(tmp_path, before, last, night(2))
    assert told(text)["1 sign of drift"].startswith("Of the night of Mon 02 Nov 2026, 02:00 UTC.")
    assert "older" not in section(text)
    assert "- Drift, of the night of Mon 02 Nov 2026, 02:00 UTC: a: dark.\n" in run.markdown
    text, _ = written(tmp_path, before, night(1, state="published"), night(2))
    assert told(text) == {}


def test_a_drifting_case_leads_to_its_pictures(tmp_path: Path) -> None:
    from tests.test_report import add_case

    run = FakeRun(tmp_path)
    add_case(run, "c1", 1)
    run.finish(log=False)
    write_jsonl(tmp_path / "nights.jsonl", [night(0, drift=flags("c1", "x.") + flags("c2", "x."))])
    text = run.write_report()
    assert f'<b><a href="#{Page(text).shown[0]}">c1</a></b>: x.' in text
    assert "<b>c2</b>: x." in text


def test_the_last_fourteen_nights_are_listed_newest_first(tmp_path: Path) -> None:
    text, _ = written(tmp_path, *(night(n, f"night {n}", version=f"v{n:04}") for n in range(20)))
    rows = nights_listed(text)
    assert [row[1:] for row in rows] == [[f"v{n:04}", f"Night {n}"] for n in range(19, 5, -1)]
    assert rows[0][0] == "Fri 20 Nov 2026, 02:00 UTC"


def test_a_failed_night_stands_out_and_has_no_version(tmp_path: Path) -> None:
    text, _ = written(tmp_path, night(0, "failed: the disk is full", state="failed", version=None))
    assert '<p class="night failed">Failed: the disk is full</p>' in text
    assert "What is published is whole all the same" in text
    assert nights_listed(text) == [["Sun 01 Nov 2026, 02:00 UTC", "–", "Failed: the disk is full"]]


def test_hostile_names_of_a_night_are_text(tmp_path: Path) -> None:
    bad = [refused(HOSTILE, 0), refused('" onload="x', -1)]
    found = {"new": [HOSTILE], "changed": [HOSTILE], "vanished": [HOSTILE]}
    removed = {"<img src=x>": HOSTILE}
    drift = flags(HOSTILE, f"is {HOSTILE}.", f"and {HOSTILE}|\x1b[31m.")
    row = night(0, f"published {HOSTILE}", state="published", version=HOSTILE, removed=removed)
    text, run = written(tmp_path, row | found | {"quarantined": bad, "drift": drift})
    tags = [tag for tag, _ in Page(text).elements]
    assert tags.count("script") == 1 and "img" not in tags
    assert not any("onload" in attributes for _, attributes in Page(text).elements)
    assert told(text)["New"] == HOSTILE
    assert "\x1b" not in run.markdown
    assert run.markdown.count("<script>") == run.markdown.count("\\<script>") > 5
