"""The report of a regression: figures as scores.json has them, and pictures on one scale."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.io.files import read_json, write_json, write_jsonl
from pipeline.io.manifest import read_manifest, write_manifest
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.model_file import read_card
from pipeline.report import ReportSettings, report
from pipeline.report.colours import BLUE_RED, NO_NUMBER, VIRIDIS, coloured
from pipeline.report.distributions import _dots
from pipeline.report.facts import CaseErrors
from pipeline.report.fields import fields
from pipeline.report.planes import CaseArrays
from pipeline.space import Grid, Volume
from pipeline.space.grid import as_affine
from tests.regression.heights import make_heights, predicted, scene, write_heights
from tests.stages import scored
from tests.test_report import OFFLINE, Page


@pytest.fixture
def run(tmp_path, write_scene, take_in):
    """Six cases, the higher the number the worse, all of them held out."""
    take_in(make_heights(tmp_path / "data", write_scene), tmp_path)
    predicted(tmp_path)
    rows = read_manifest(tmp_path / "manifest.jsonl")
    write_manifest(tmp_path / "manifest.jsonl", [replace(row, split="test") for row in rows])
    return tmp_path


def written(run, cases=6):
    """The page."""
    report(
        ReportSettings(cases=cases),
        run_name="heights",
        model=run / "best.pt",
        manifest=run / "manifest.jsonl",
        quarantine=run / "quarantine.jsonl",
        volumes=run / "volumes",
        predictions=run / "predictions",
        scores=run / "scores.json",
        training_logs={"": run / "log.jsonl"},
        prediction_record=run / "predict.json",
        settings_text="name: heights\n",
        path=run / "report" / "index.html",
    )
    return (run / "report" / "index.html").read_text()


def test_figures_shown_are_those_of_scores_json(run):
    scores = scored(run)
    text = written(run)
    found = scores["targets"]["height"]
    errors = [f"{found[name]:.4g}" for name in ("mae", "mse", "rmse")]
    shares = [f"{found[name]:.4f}" for name in ("r2", "r2_pooled")]
    assert ["height", *errors, *shares, "6", "0"] in Page(text).rows
    assert f"<b>{found['mae']:.4g}</b>" in text
    said = f"mean absolute error of height over 6 held-out cases (split “test”); R² {shares[0]}"
    assert said in text
    listed = {r[0]: r[1:] for r in Page(text).rows if r and re.fullmatch(r"tile_\d", r[0])}
    assert list(listed) == [f"tile_{n}" for n in (5, 4, 3, 2, 1, 0)]
    for row in scores["cases"]:
        figures = [f"{row['mae']:.4g}", f"{row['rmse']:.4g}", f"{row['r2']:.4f}"]
        assert listed[row["case"]] == [*figures, f"{row['count']:,}"]
    markdown = (run / "report" / "report.md").read_text()
    assert f"Mean absolute error of height **{found['mae']:.4g}**" in markdown
    assert "without R²" in markdown and "Dice" not in text + markdown


def test_worst_median_and_best_cases_stand_with_four_pictures_each(run):
    scored(run)
    text = written(run, cases=3)
    headings = re.findall(r"<h3>(\w+)</h3><span>(\w+)", text)
    assert headings == [("tile_5", "worst"), ("tile_2", "median"), ("tile_0", "best")]
    names = re.findall(r"<figcaption>(\w+)</figcaption></figure>", text)
    assert names == ["image", "truth", "prediction", "error"] * 3
    assert text.count('<svg class="pane"') == 12
    assert text.count('<svg class="chart"') == 3


def test_the_page_needs_no_network_and_the_same_run_gives_the_same_bytes(run):
    scored(run)
    text = written(run)
    for _, attributes in Page(text).elements:
        for name in ("src", "href", "srcset"):
            assert re.match(OFFLINE, attributes.get(name) or "#")
    assert not re.search(r"https?://|@import|url\(", text)
    assert written(run) == text


def test_before_anything_is_scored_the_page_says_so(run):
    text = written(run)
    assert "no mean absolute error: there are no scores yet" in text
    assert "No voxel can be compared." in text and "Nothing was scored." in text


def test_a_truth_of_another_task_is_not_drawn(run, make_pairs, take_in):
    scored(run)
    take_in(make_pairs(run / "other", cases=6), run / "classes")
    for row in read_manifest(run / "manifest.jsonl"):
        (run / "volumes" / row.store).rename(run / row.store)
        (run / "classes" / "volumes" / row.store).rename(run / "volumes" / row.store)
    text = written(run)
    assert "is of another task: see data.task." in text and 'class="pane"' not in text


def test_validation_curves_are_of_r2_and_mae(run):
    scored(run)
    rows = [
        {"kind": "train", "step": step, "position": step, "loss": 1 / step, "learning_rate": 1e-3,
         "patches_per_s": 10.0, "data_wait": 0.1}
        for step in range(10, 200, 10)
    ]  # fmt: skip
    rows += [
        {
            "kind": "val",
            "step": s,
            "position": s,
            "score": s / 300,
            "r2": s / 300,
            "mae": 9 - s / 50,
        }
        for s in (60, 120, 180)
    ]
    write_jsonl(run / "log.jsonl", rows)
    text = written(run)
    assert "validation R²" in text and "validation MAE" in text
    assert "Best R² 0.6000, at step 180." in text
    assert text.count('<svg class="chart"') == 7


@pytest.mark.parametrize(
    ("values", "ticks", "note"),
    [
        ((-19.0, 0.5, 0.98), [0, 0.2, 0.4, 0.6, 0.8, 1], True),
        ((0.2, 0.5, 0.98), [0, 0.2, 0.4, 0.6, 0.8, 1], False),
        ((-19.0, -7.0, -3.0), [-20, -15, -10, -5, 0], False),
    ],
)
def test_a_bad_beginning_leaves_room_for_the_r2_that_follows(run, values, ticks, note):
    scored(run)
    rows = [{"kind": "val", "step": n, "r2": r2, "mae": 1.0} for n, r2 in enumerate(values)]
    write_jsonl(run / "log.jsonl", rows)
    text = written(run)
    chart = re.search(r'aria-label="validation R² over step">(.*?)</svg>', text)[1]
    marks = re.findall(r'text-anchor="end">([^<]*)<', chart)
    assert [float(mark) for mark in marks] == ticks
    heights = [float(y) for y in re.findall(r'cy="([^"]*)"', chart)]
    assert len(heights) == 3 and min(heights) >= 12 and max(heights) <= 180
    assert ("What is below 0 is drawn at 0." in text) == note


def test_the_model_says_what_its_figures_are(run):
    scored(run)
    text = written(run)
    assert "training: validation R²" in text and "<td>smooth_l1</td>" in text
    assert "None" not in text


def test_seams_of_numbers_are_said_in_numbers(run):
    scored(run)
    record = {"model_id": read_card(run / "best.pt").model_id, "blend": "exact", "tile": [64, 64],
              "halo": [8, 8], "precision": "float32", "device": "cpu", "channels_last": False,
              "seam": {"voxels": 1000, "different": 0}, "cases": 6, "estimated_bytes": 1,
              "peak_bytes": 1, "seconds": 1.0, "voxels": 1000}  # fmt: skip
    write_json(run / "predict.json", record)
    assert "No seams: all 1,000 values compared are those of one pass over the whole" in written(
        run
    )
    write_json(run / "predict.json", record | {"seam": {"voxels": 1000, "different": 2}})
    told = "2 of 1,000 values compared differ by 1 % of the truth&#39;s spread from those of"
    assert told in written(run)
    assert "target" in written(run) and "height, 30 ± 12" in written(run)


def test_a_scored_case_without_r2_is_ranked_by_its_error():
    good, bad = (CaseErrors(c, "test", mae, mae, None, 9) for c, mae in (("a", 1.0), ("b", 2.0)))
    assert bad.rank < good.rank
    assert CaseErrors("c", "test", None, None, None, 0).rank is None


# Pictures


def pixels(href):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))))


def test_truth_and_prediction_have_the_same_colour_for_the_same_number():
    shape = (640, 640)
    truth = np.linspace(0, 100, 640, dtype=np.float32) * np.ones(shape, np.float32)
    prediction = truth[:, ::-1].copy()
    truth[:9] = np.nan
    grid = Grid(shape, as_affine(np.eye(3)), None)
    case = CaseArrays(np.ones((1, *shape)), [(0, 1)], truth, prediction, grid, (1, 1))
    drawn = fields(case)
    [view] = drawn["views"]
    panes = {name: pixels(href) for name, href in view["panes"]}
    np.testing.assert_array_equal(panes["truth"][9:], panes["prediction"][9:, ::-1])
    assert (panes["truth"][:9] == NO_NUMBER).all() and (panes["error"][:9] == NO_NUMBER).all()
    # Too high on the left, too low on the right.
    assert panes["error"][-1, 0, 0] > panes["error"][-1, 0, 2]
    assert panes["error"][-1, -1, 0] < panes["error"][-1, -1, 2]
    assert [(s["low"], s["high"]) for s in drawn["scales"]] == [
        ("0.939", "99.06"),
        ("-99.06", "99.06"),
    ]


@pytest.mark.parametrize("palette", [VIRIDIS, BLUE_RED])
def test_colours_meet_their_anchors_and_beyond_the_limits_stay(palette):
    values = np.array([[-9.0, -3.0, 5.0, 99.0]])
    found = coloured(values, (-3, 5), palette)[0].tolist()
    first, last = list(palette[0]), list(palette[-1])
    assert found == [first, first, last, last]
    middle = coloured(np.array([[1.0]]), (-3, 5), palette)[0, 0].tolist()
    assert middle == list(palette[len(palette) // 2])


def test_the_scatter_has_prediction_upwards_and_truth_to_the_right():
    cells = np.zeros((4, 4))
    cells[3, 0] = 7  # a large truth, predicted small
    drawn = pixels(_dots(cells))[..., 3]
    assert drawn[3, 3] == 255 and (drawn > 0).sum() == 1


def test_a_constant_truth_is_drawn_all_the_same():
    shape = (32, 40)
    truth = np.full(shape, 7, np.float32)
    grid = Grid(shape, as_affine(np.eye(3)), None)
    for prediction in (truth, truth + 1, None, np.full(shape, np.nan, np.float32)):
        case = CaseArrays(np.ones((1, *shape)), [(0, 1)], truth, prediction, grid, (1, 1))
        assert len(fields(case)["views"][0]["panes"]) == (2 if prediction is None else 4)


def test_a_volume_is_shown_in_three_planes(run):
    scored(run)
    shape, affine = (12, 36, 30), as_affine(np.diag([3, 1, 1, 1]))
    grid = Grid(shape, affine, "millimeter")
    random = np.random.default_rng(0)
    truth = random.normal(size=shape).astype(np.float32)
    spec = VolumeSpec(grid, "uint8", ("0",), None, target="height")
    writer = VolumeWriter(run / "volumes" / "tile_0.zarr", spec)
    for window in writer.windows():
        part = Volume(np.ones((1, *window.shape), np.uint8), grid.cropped(window))
        writer.write(window, part, truth[window.slices])
    limits = {"percentiles": {"1": 0.0, "99": 1.0}}
    writer.finish({"channels": [limits]}, "key", [])
    folder = run / "predictions" / read_card(run / "best.pt").model_id
    write_heights(folder / "tile_0.zarr", VolumeStore(run / "volumes" / "tile_0.zarr"), truth)
    scores = read_json(run / "scores.json")
    scores["cases"] = [r for r in scores["cases"] if r["case"] == "tile_0"]
    write_json(run / "scores.json", scores)
    text = written(run, cases=1)
    assert len(re.findall(r"<h4>\w+, ", text)) == 3 and text.count('<svg class="pane"') == 12


def test_large_cases_are_compared_at_a_coarser_level(run, monkeypatch):
    scored(run)
    shape = scene(0, (96, 112))[1].shape
    monkeypatch.setattr("pipeline.report.distributions.MOST_VOXELS", 100)
    text = written(run)
    compared = int(re.search(r"([\d,]+) voxels of 6 held-out cases", text)[1].replace(",", ""))
    assert 300 < compared <= 600 < 6 * np.prod(shape)
