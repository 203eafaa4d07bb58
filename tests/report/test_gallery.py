"""Pictures of cases: where they lie, what they are read from, and what is said in their place."""

import base64
import io
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.warp import transform

from pipeline.drawing.views import choose_views
from pipeline.io.store import partial_path
from pipeline.report.places import marks, place_in_words
from pipeline.space import Grid
from pipeline.space.grid import as_affine
from tests.report.scores import full_scores
from tests.test_report import MODEL_ID, FakeRun, add_case, disks, picture

UTM = rasterio.crs.CRS.from_epsg(32633).to_wkt()
DEGREES = rasterio.crs.CRS.from_epsg(4326).to_wkt()
RAS = as_affine([[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    """Three cases."""
    run = FakeRun(tmp_path)
    for shift, name in enumerate(("best", "middle", "worst")):
        add_case(run, name, shift)
    run.finish(log=False)
    return run


def volume(run: FakeRun, case: str) -> Path:
    return run.root / "volumes" / f"{case}.zarr"


def mask(run: FakeRun, case: str) -> Path:
    return run.root / "predictions" / MODEL_ID / f"{case}.zarr"


def spoil(folder: Path) -> int:
    """Put other bytes in the place of every chunk of an array; how many there were."""
    chunks = [path for path in (folder / "c").rglob("*") if path.is_file()]
    for path in chunks:
        path.write_bytes(b"no chunk of ours")
    return len(chunks)


def said(text: str, case: str) -> str:
    """What stands in place of a case's pictures; empty where there are all."""
    article = re.search(rf"<h3>{case}</h3>.*?</article>", text, re.DOTALL)
    assert article is not None
    note = re.search(r'<p class="note">(.*?)</p>', article.group(), re.DOTALL)
    return "" if note is None else unescape(note.group(1))


def panes(text: str) -> int:
    return text.count('<svg class="pane"')


def test_a_damaged_volume_costs_its_own_pictures_alone(run: FakeRun) -> None:
    assert spoil(volume(run, "worst") / "0" / "image")
    text = run.write_report()
    assert said(text, "worst").startswith(f"No pictures: {volume(run, 'worst')} cannot be read (")
    assert said(text, "worst").endswith("): see `segflow verify`, and make it anew")
    assert said(text, "best") == "" and panes(text) == 4


def test_a_damaged_mask_leaves_the_truth_and_a_sentence(run: FakeRun) -> None:
    assert spoil(mask(run, "worst") / "0" / "mask")
    text = run.write_report()
    assert said(text, "worst").startswith(
        f"Its mask cannot be shown: {mask(run, 'worst')} cannot be read ("
    )
    assert panes(text) == 5


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"attributes": {"segflow": {}}}'])
def test_torn_metadata_is_a_sentence(run: FakeRun, content: str) -> None:
    (volume(run, "worst") / "zarr.json").write_text(content)
    (mask(run, "middle") / "zarr.json").write_text(content)
    text = run.write_report()
    assert said(text, "worst").startswith("No pictures: ")
    assert said(text, "middle").startswith("Its mask cannot be shown: ") and panes(text) == 3


def test_attributes_that_lack_something_are_a_sentence(run: FakeRun) -> None:
    path = volume(run, "worst") / "zarr.json"
    metadata = json.loads(path.read_text())
    del metadata["attributes"]["segflow"]["grid"]
    path.write_text(json.dumps(metadata))
    assert "(KeyError: 'grid')" in said(run.write_report(), "worst")


def test_a_store_that_is_still_written_is_not_drawn(run: FakeRun) -> None:
    for store in (mask(run, "worst"), volume(run, "middle")):
        store.rename(partial_path(store))
    path = mask(run, "best") / "zarr.json"
    path.write_text(path.read_text().replace('"complete"', '"writing"'))
    text = run.write_report()
    assert said(text, "worst").startswith("Its mask cannot be shown: there is no store at ")
    assert said(text, "middle").startswith("No pictures: there is no store at ")
    assert "with status 'writing': expected a complete mask store" in said(text, "best")
    assert panes(text) == 2


def test_a_page_without_any_picture_is_still_a_page(run: FakeRun) -> None:
    for case in ("best", "middle", "worst"):
        volume(run, case).rename(run.root / case)
    text = run.write_report()
    assert panes(text) == 0 and text.count("No pictures: ") == 3
    assert "mean Dice over 2 classes" in text


def test_large_scenes_are_read_from_coarser_levels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.planes.WHOLE_BYTES", 1_000_000)
    monkeypatch.setattr("pipeline.io.pyramid.OVERVIEW_VOXELS", 400_000)
    run = FakeRun(tmp_path)
    truth = disks((1100, 1300))
    run.add("wide", picture(truth), truth, truth)
    run.finish(log=False)
    finest = [volume(run, "wide") / "0" / "image", volume(run, "wide") / "labels" / "truth" / "0"]
    finest += [mask(run, "wide") / "0" / "mask"]
    assert sum(map(spoil, finest)) == 3 * 9
    text = run.write_report()
    assert said(text, "wide") == "" and panes(text) == 2
    assert "1100 × 1300 voxels" in text
    [image, *_] = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == (650, 550)


def scene(crs: str, unit: str, pixel: float, origin: tuple[float, float]) -> Grid:
    matrix = np.array([[0, pixel, origin[0]], [-pixel, 0, origin[1]], [0, 0, 1]])
    return Grid((400, 512), as_affine(matrix), unit, crs, "corner")


def test_scenes_have_a_bar_of_a_round_length_and_their_coordinates() -> None:
    grid = scene(UTM, "meter", 10, (499_980, 5_300_040))
    [view] = choose_views(grid, np.ones(grid.shape, bool))
    found = marks(grid, view, 512)
    assert found.length == "1 km" and found.bar == pytest.approx(100 * 1000 / 5120, abs=0.01)
    assert found.ends is None  # north is up
    size, edges, middle = place_in_words(grid)
    assert size == "400 × 512 voxels (y, x), 10 × 10 m"
    assert edges == ("x 499980 to 505100, y 5296040 to 5300040 (WGS 84 / UTM zone 33N, EPSG:32633)")
    [lon], [lat] = transform(UTM, "EPSG:4326", [502_540], [5_298_040])
    assert middle == f"middle at {lat:.4f}° N, {lon:.4f}° E"


def test_bars_over_degrees_are_in_metres_at_their_latitude() -> None:
    grid = scene(DEGREES, "degree", 9e-5, (-62.5, -9.25))
    [view] = choose_views(grid, np.ones(grid.shape, bool))
    [x0, x1], _ = transform(
        "EPSG:4326", "+proj=aeqd +lat_0=-9.268 +lon_0=-62.477", [-62.5, -62.5 + 512 * 9e-5],
        [-9.268, -9.268],
    )  # fmt: skip
    width = float(np.hypot(x1 - x0, 0))
    found = marks(grid, view, 512)
    assert found.length == "1 km" and found.bar == pytest.approx(1e5 / width, rel=0.01)
    assert place_in_words(grid)[2] == "middle at 9.2680° S, 62.4770° W"


def test_planes_of_a_scan_have_letters_at_their_edges(tmp_path: Path) -> None:
    grid = Grid((12, 36, 30), RAS, "millimeter")
    letters = {
        view.name: marks(grid, view, 30).ends
        for view in choose_views(grid, np.ones(grid.shape, bool))
    }
    assert letters == {
        "axial": ("L", "R", "A", "P"),
        "coronal": ("L", "R", "S", "I"),
        "sagittal": ("P", "A", "S", "I"),
    }
    assert place_in_words(grid)[0].endswith("stored as RAS")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_letters_say_where_the_voxels_at_an_edge_lie(flips: tuple[int, int, int]) -> None:
    signs = np.diag([*flips, 1])
    shape = (10, 11, 12)
    start = [0 if s > 0 else n - 1 for s, n in zip(flips, shape, strict=True)]
    matrix = np.asarray(RAS) @ signs
    matrix[:3, 3] = np.asarray(RAS)[:3, :3] @ start
    grid = Grid(shape, as_affine(matrix), "millimeter")
    world = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    places = grid.index_to_world(world)
    for view in choose_views(grid, np.ones(shape, bool)):
        ends = marks(grid, view, 12).ends
        assert ends is not None
        seen = view.cut(np.moveaxis(places, -1, 0))  # (3, H, W): x, y and z of each pixel
        means = [seen[:, :, 0], seen[:, :, -1], seen[:, 0], seen[:, -1]]
        middle = places.reshape(-1, 3).mean(axis=0)
        for letter, edge in zip(ends, means, strict=True):
            axis, sign = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1),
                          "S": (2, 1)}[letter]  # fmt: skip
            assert sign * (edge.mean(axis=1)[axis] - middle[axis]) > 0


def test_pictures_without_a_place_have_neither_bar_nor_letters(run: FakeRun) -> None:
    text = run.write_report()
    assert 'class="scale"' not in text and 'class="mark' not in text


def test_scans_on_the_page_have_letters_and_millimetres(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, ndim=3)
    truth = disks((12, 36, 30))
    run.add("scan", picture(truth), truth, truth, Grid(truth.shape, RAS, "millimeter"))
    run.finish(log=False)
    text = run.write_report()
    assert text.count('<b class="mark') == 6 * 4
    assert set(re.findall(r'aria-label="(\d+ mm)"', text)) == {"5 mm", "10 mm"}


def test_of_many_classes_the_lowest_stand_beside_the_name(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(12)]
    scores = full_scores(names, {"test": 3})
    run = FakeRun(tmp_path, names=("background", *names))
    run.finish(log=False)
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    text = run.write_report()
    worst = text.split("<h3>")[1].split("</h3>")[0]
    of = {r["class"]: r["dice"] for r in scores["cases"] if r["case"] == worst}
    known = [(dice, name) for name, dice in of.items() if dice is not None]
    told = re.findall(r"· (s\d+) ([\d.]+)", text.split("worst, 1 of")[1].split("</header>")[0])
    assert told == [(name, f"{dice:.4f}") for dice, name in sorted(known)[:6]]
    assert f"· {12 - 6} more" in text
