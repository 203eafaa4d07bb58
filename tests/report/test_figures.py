"""What the report says of scores that hold every figure there is."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipeline.io.files import write_json
from tests.report.scores import full_scores
from tests.test_report import HOSTILE, FakeRun, Page

TWO = ["anterior", "posterior"]
THIRTY = [f"structure {n}" for n in range(30)]


def written(folder: Path, scores: dict[str, Any]) -> str:
    """The page of a run with these scores and nothing to draw."""
    run = FakeRun(folder, names=("background", *scores["classes"]))
    run.finish(log=False, record=False)
    write_json(folder / "scores.json", scores)
    (folder / "scores.csv").write_text("case\n")
    return run.write_report(cases=0)


@pytest.fixture
def scores() -> dict[str, Any]:
    return full_scores(TWO, {"train": 4, "test": 12}, regions={"both": TWO}, objects=True)


def section(text: str, name: str) -> str:
    return text.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_intervals_regions_surfaces_and_volumes_are_told(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    text = written(tmp_path, scores)
    rows = {r[0]: r[1:] for r in Page(section(text, "classes")).rows if r}
    for name, found in scores["classes"].items():
        low, high = found["dice_ci"]
        overlap = f"{found['dice']:.4f}", f"{low:.4f} to {high:.4f}", f"{found['iou']:.4f}"
        assert f'<td class="strong">{overlap[0]}</td><td>{overlap[1]}</td><td>{overlap[2]}' in text
        assert rows[name][0] == f"{found['nsd']:.4f}"  # the second table
    assert "bothanterior, posterior" in rows
    assert "NSD at 1 mm" in text and "difference, ml" in text
    low, high = scores["mean"]["dice_ci"]
    assert f"95 % interval {low:.4f} to {high:.4f}</span>" in text


def test_every_split_has_a_column_and_the_held_out_one_stands_out(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    found = section(written(tmp_path, scores), "splits")
    rows = Page(found).rows
    assert rows[0] == ["class", "train", "test"]
    of = {split: scores["splits"][split]["classes"]["anterior"]["dice"] for split in rows[0][1:]}
    assert rows[1] == ["anterior", *(f"{dice:.4f}" for dice in of.values())]
    assert f'<td class="strong">{of["test"]:.4f}</td>' in found


def test_files_of_before_have_none_of_it_and_a_page_all_the_same(tmp_path: Path) -> None:
    scores = full_scores(TWO, {"test": 3})
    old = {k: scores[k] for k in ("model_id", "split", "rules", "cases")}
    figures = ("dice", "iou", "precision", "recall", "n_cases", "n_empty")
    classes = {name: {k: of[k] for k in figures} for name, of in scores["classes"].items()}
    text = written(tmp_path, {**old, "mean": {"dice": 0.5}, "classes": classes})
    for name in ("splits", "confusion", "objects", "calibration", "membranes"):
        assert f'id="{name}"' not in text
    assert "95 % interval" not in text and "Surfaces" not in text
    assert Page(section(text, "classes")).rows[0][1:] == [
        "Dice", "IoU", "precision", "recall", "cases", "empty",
    ]  # fmt: skip


def test_the_table_of_cases_can_be_turned_to_every_figure(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    text = written(tmp_path, scores)
    table = next(a for tag, a in Page(text).elements if a.get("id") == "case-table")
    voxels, objects = json.loads(table["data-figures"] or "")
    assert voxels["things"] == [*TWO, "both"] and objects["things"] == TWO
    names = [figure["name"] for figure in voxels["figures"]]
    assert {"Dice", "HD95, mm", "NSD at 1 mm", "specificity", "volume, ml"} < set(names)
    order = re.findall(r'<tr data-row="(\d+)"><td class="name" data-value="([^"]*)"', text)
    assert [int(n) for n, _ in order] == list(range(16))
    for number, case in order:
        row = next(r for r in scores["cases"] if r["case"] == case and r["class"] == "posterior")
        found = voxels["values"][int(number)][1][names.index("HD95, mm")]
        assert found == (None if row["hd95"] is None else pytest.approx(row["hd95"], rel=1e-4))


def test_many_classes_are_told_by_the_lowest_and_numbered_in_the_matrix(tmp_path: Path) -> None:
    scores = full_scores(THIRTY, {"test": 6})
    text = written(tmp_path, scores)
    head = Page(section(text, "cases")).rows[0]
    assert head == ["case", "mean Dice", "lowest Dice", "of"]
    for row in Page(section(text, "cases")).rows[1:]:
        of = {r["class"]: r["dice"] for r in scores["cases"] if r["case"] == row[0]}
        lowest = min((dice, name) for name, dice in of.items() if dice is not None)
        assert row[2:] == [f"{lowest[0]:.4f}", lowest[1]]
    matrix = section(text, "confusion")
    assert Page(matrix).rows[0] == ["truth", *map(str, range(31)), "voxels"]
    assert "background taken for structure 3: " in matrix


def test_the_matrix_gives_each_row_as_shares_with_their_counts(tmp_path: Path) -> None:
    scores = full_scores(TWO, {"test": 3})
    scores["confusion"]["counts"] = [[9_999, 1, 0], [250, 750, 0], [0, 0, 0]]
    found = section(written(tmp_path, scores), "confusion")
    rows = Page(found).rows[1:]
    assert rows[0] == ["background", "> 99.9 %9,999", "< 0.1 %1", "0", "10,000"]
    assert rows[1] == ["anterior", "25.0 %250", "75.0 %750", "0", "1,000"]
    assert rows[2] == ["posterior", "0", "0", "0", "0"]
    tints = [float(t) for t in re.findall(r"--tint:([\d.]+)%", found)]
    assert max(tints) <= 45 and tints[3] == pytest.approx(45 * 0.25**0.5)


def test_objects_calibration_and_membranes_stand_where_they_were_measured(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    scores["membranes"] = {"rand": 0.0382, "warping": 0.000353, "cases": []}
    text = written(tmp_path, scores)
    rows = Page(section(text, "objects")).rows
    assert rows[0] == ["class", "PQ", "SQ", "RQ", "F1", "AP", "objects", "found"]
    assert rows[1][0] == "anterior" and rows[1][-2:] == ["1,234", "1,100"]
    assert section(text, "objects").count('<svg class="chart"') == 2
    assert "Expected calibration error 0.0312, over 22,210 voxels." in text
    assert "<dt>warping error</dt><dd>0.000353</dd>" in text


def test_a_strip_has_a_dot_per_case_and_the_quartiles_of_numpy(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    import numpy as np

    text = section(written(tmp_path, scores), "strips")
    values = [
        r["dice"]
        for r in scores["cases"]
        if r["class"] == "anterior" and r["split"] == "test" and r["dice"] is not None
    ]
    low, median, high = np.percentile(values, [25, 50, 75])
    row = Page(text).rows[1]
    assert row == ["anterior", "", f"{median:.4f}", f"{low:.4f} to {high:.4f}", str(len(values))]
    assert text.split("</svg>")[0].count("<circle") == len(values)


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    long = "N" * 300
    names = [HOSTILE, long, '" onload="x', "🧠 'quoted' & <b>"]
    scores = full_scores(names, {"test": 3}, regions={'"><img src=x>': [long]}, objects=True)
    for row in [*scores["cases"], *scores["region_cases"], *scores["object_cases"]]:
        row["case"] += "</td><script>alert(2)</script>" + "c" * 300
    text = written(tmp_path, scores)
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(tag == "img" or "onload" in attributes for tag, attributes in page.elements)
    table = next(a for _, a in page.elements if a.get("id") == "case-table")
    assert json.loads(table["data-figures"] or "")[0]["things"][:4] == names
    options = re.findall(r"<option value=\"0t\d\">(.*?)</option>", text)
    assert [unescape(option) for option in options][:4] == names
    assert not re.search(r"https?://|@import|url\(", text)


def test_500_cases_of_30_classes_stay_within_two_megabytes(tmp_path: Path) -> None:
    text = written(tmp_path, full_scores(THIRTY, {"train": 350, "test": 150}))
    assert len(text) < 2_500_000
    assert text.count("<tr data-row=") == 500


def test_more_figures_than_a_page_holds_are_left_to_the_files(
    tmp_path: Path, scores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.case_table.MOST_NUMBERS", 10)
    text = written(tmp_path, scores)
    assert "data-figures" not in text and "<select" not in text
    assert '<a href="../scores.csv">scores.csv</a>' in text


def test_the_files_for_programs_lie_where_the_links_say(
    tmp_path: Path, scores: dict[str, Any]
) -> None:
    text = written(tmp_path, scores)
    links = [a["href"] for tag, a in Page(text).elements if tag == "a"]
    assert {"report.md", "../scores.json", "../scores.csv"} <= set(links)
    for link in links:
        assert (tmp_path / "report" / str(link)).is_file()


def test_the_terminal_is_told_the_same_figures(tmp_path: Path, scores: dict[str, Any]) -> None:
    written(tmp_path, scores)
    text = (tmp_path / "report" / "report.md").read_text()
    for title in ("Dice per class", "Surfaces and sizes", "Dice by split", "Objects"):
        assert f"\n## {title}\n" in text
    assert f"{scores['classes']['anterior']['nsd']:.4f}" in text
    worst = min(
        (r for r in scores["cases"] if r["split"] == "test" and r["dice"] is not None),
        key=lambda r: r["dice"],
    )
    assert "Expected calibration error 0.0312." in text
    assert worst["case"] in text.split("## Worst cases")[1]


def test_cases_without_a_score_are_counted_as_failed(tmp_path: Path) -> None:
    from pipeline.io.manifest import ManifestRow, write_manifest

    run = FakeRun(tmp_path)
    run.rows = [ManifestRow(c, c, "test", None, "complete", store=c) for c in ("test_000", "late")]
    run.rows.append(ManifestRow("gone", "gone", "train", 0, "vanished", store="gone"))
    run.refuse("bad")
    run.finish(log=False)
    write_json(tmp_path / "scores.json", full_scores(["nucleus", "membrane"], {"test": 1}))
    write_manifest(tmp_path / "manifest.jsonl", run.rows)
    text = run.write_report(cases=0)
    assert "Complete, but 1 of 3 cases is quarantined and 1 has no score." in text
    counts = re.findall(r"<dt[^>]*>(\w+)</dt><dd>(\d+)</dd>", text.split("</header>")[0])
    assert counts == [("complete", "1"), ("quarantined", "1"), ("failed", "1"), ("vanished", "1")]


def test_a_class_of_one_case_makes_no_distribution(tmp_path: Path) -> None:
    text = written(tmp_path, full_scores(["one"], {"test": 1}))
    assert 'id="strips"' not in text


def test_strips_draw_an_even_choice_of_very_many_cases(tmp_path: Path) -> None:
    text = section(written(tmp_path, full_scores(["one"], {"test": 700})), "strips")
    assert 100 <= text.count("<circle") <= 202


def test_the_validation_of_many_classes_is_told_by_its_ends(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, names=("background", *THIRTY))
    run.finish()
    text = section(run.write_report(cases=0), "training")
    assert re.findall(r"<title>(\w+)</title>", text) == ["loss", "lowest", "highest", "mean"]
    assert "highest class" in text and "learning rate" in text


def test_cases_of_other_splits_alone_are_no_held_out_ones(tmp_path: Path) -> None:
    scores = full_scores(TWO, {"train": 3, "test": 1})
    scores["cases"] = [row for row in scores["cases"] if row["split"] == "train"]
    scores["mean"] = dict.fromkeys(scores["mean"])
    for figures in scores["classes"].values():
        figures.update(dict.fromkeys(figures), n_cases=0, n_empty=0)
    text = written(tmp_path, scores)
    assert "no held-out case has been scored" in text and "no scored class" not in text
