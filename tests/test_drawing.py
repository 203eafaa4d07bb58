import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.drawing.pictures import DIFFERENCE, NO_LABEL, contours, enlarged, greys, png
from pipeline.drawing.views import View, choose_views
from pipeline.io.ngff import LabelClass
from pipeline.report.charts import Series, line_chart, thinned, ticks
from pipeline.space import Grid, voxel_grid
from pipeline.space.grid import as_affine

CLASSES = (
    LabelClass(0, "background", True),
    LabelClass(1, "one"),
    LabelClass(2, "two"),
)


def scan(shape: tuple[int, ...], *steps: float) -> Grid:
    """A scan whose world axes (x, y, z) run along array axes (z, y, x) with these steps."""
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(steps))
    return Grid(shape, as_affine(affine), "millimeter")


def decoded(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def borders(fine: np.ndarray, reach: int) -> np.ndarray:
    """Pixels with another label within ``reach``, the slow and plain way."""
    result = np.zeros(fine.shape, bool)
    for y, x in np.ndindex(fine.shape):
        box = fine[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        result[y, x] = (box != fine[y, x]).any()
    return result


def test_contours_lie_on_the_inside_of_every_label_border_and_nowhere_else() -> None:
    labels = np.zeros((8, 10), np.uint8)
    labels[1:6, 2:7] = 1
    labels[3:8, 5:9] = 2
    size = (80, 100)
    picture = contours(labels, size, CLASSES, width=3)
    fine = enlarged(labels, size)
    drawn = picture[..., 3] > 0
    np.testing.assert_array_equal(drawn, borders(fine, 3) & (fine > 0))
    assert (picture[drawn & (fine == 1)] == (*CLASSES[1].color, 255)).all()
    assert (picture[drawn & (fine == 2)] == (*CLASSES[2].color, 255)).all()


def test_the_edge_of_the_picture_is_no_border() -> None:
    assert not contours(np.ones((8, 8), np.uint8), (64, 64), CLASSES, width=3).any()


def test_an_object_of_one_voxel_is_drawn() -> None:
    labels = np.zeros((32, 32), np.uint8)
    labels[9, 20] = 2
    picture = contours(labels, (640, 640), CLASSES, width=3)
    rows, columns = np.nonzero(picture[..., 3])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (180, 199, 400, 419)


def test_differences_are_shaded_and_voxels_without_label_dimmed() -> None:
    truth = np.ones((16, 16), np.uint8)
    mask = truth.copy()
    mask[:8, :8] = 2
    mask[12:, 12:] = 255
    picture = contours(mask, (256, 256), CLASSES, width=3, truth=truth)
    assert tuple(picture[40, 40]) == DIFFERENCE
    assert tuple(picture[230, 230]) == NO_LABEL
    assert not picture[60, 200].any()


def test_enlarging_by_a_whole_number_repeats_voxels() -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(enlarged(labels, (8, 12)), np.kron(labels, np.ones((4, 4), "u1")))


def test_a_volume_is_shown_where_most_of_its_foreground_is() -> None:
    foreground = np.zeros((9, 10, 11), bool)
    foreground[2, 3:6, 4] = True
    foreground[2:5, 4, 4] = True
    views = choose_views(voxel_grid(foreground.shape), foreground)
    assert [(v.axis, v.index, v.name) for v in views] == [(0, 2, "z"), (1, 4, "y"), (2, 4, "x")]


def test_of_planes_with_equal_foreground_the_middle_one_is_shown() -> None:
    views = choose_views(voxel_grid((9, 5, 7)), np.zeros((9, 5, 7), bool))
    assert [v.index for v in views] == [4, 2, 3]


@pytest.mark.parametrize("steps", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_scans_stand_upright_whatever_their_storage_order(steps: tuple[float, ...]) -> None:
    grid = scan((4, 5, 6), *steps)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    world = np.moveaxis(grid.index_to_world(index), -1, 0)  # (x y z, Z, Y, X)
    axial, coronal, sagittal = choose_views(grid, np.ones(grid.shape, bool))
    assert (axial.name, coronal.name, sagittal.name) == ("axial", "coronal", "sagittal")
    for view, right, up in ((axial, 0, 1), (coronal, 0, 2), (sagittal, 1, 2)):
        plane = view.cut(world)
        assert (np.diff(plane[right], axis=1) > 0).all()
        assert (np.diff(plane[up], axis=0) < 0).all()


def test_a_scan_stored_sagittally_is_named_and_turned_by_its_affine() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[2, 0, 0], [0, 0, 1], [0, 1, 0]]  # array (z, y, x) runs along world x, z, y
    grid = Grid((3, 6, 5), as_affine(affine), "millimeter")
    sagittal, axial, coronal = choose_views(grid, np.ones(grid.shape, bool))
    assert [v.name for v in (sagittal, axial, coronal)] == ["sagittal", "axial", "coronal"]
    assert axial.cut(np.zeros(grid.shape)).shape == (5, 3)
    assert axial.spacing == (1.0, 2.0)


def test_plain_pictures_stay_as_they_are_and_scenes_show_north_up() -> None:
    picture = np.arange(12).reshape(3, 4)
    (view,) = choose_views(voxel_grid((3, 4)), picture > 0)
    np.testing.assert_array_equal(view.cut(picture), picture)
    southward = as_affine([[0, 10, 0], [10, 0, 0], [0, 0, 1]])  # rows run north
    (view,) = choose_views(Grid((3, 4), southward, "meter", "LOCAL_CS", "corner"), picture > 0)
    np.testing.assert_array_equal(view.cut(picture), picture[::-1])


def test_planes_are_drawn_in_true_proportions() -> None:
    view = View("coronal", 1, 0, False, (False, False), (3.0, 1.0))
    assert view.size((10, 60)) == (330, 660)
    assert view.size((1000, 3000)) == (1024, 1024)


def test_greys_span_the_limits() -> None:
    plane = np.array([[[-5.0, 0.0, 10.0, 20.0, np.nan]]])
    assert greys(plane, [(0.0, 20.0)]).tolist() == [[0, 0, 128, 255, 0]]
    assert greys(np.zeros((3, 4, 5), np.uint8), [(0.0, 1.0)] * 3).shape == (4, 5, 3)
    assert greys(np.full((1, 2, 2), 7), [(7.0, 7.0)]).dtype == np.uint8


def test_a_png_holds_the_picture_and_is_reduced_never_enlarged() -> None:
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(decoded(png(picture)), picture)
    np.testing.assert_array_equal(decoded(png(picture, (80, 80))), picture)
    assert decoded(png(picture, (4, 2))).shape == (4, 2)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0), (5, 5), (-0.3, 0.3), (0, 5e-4), (-2e5, 7), (0.871, 0.872)]
)
def test_ticks_cover_the_range_in_few_round_steps(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert 2 <= len(found) <= 8
    assert {f"{step:.3e}"[0] for step in np.diff(found)} <= set("125")


def test_a_chart_escapes_its_words_and_carries_every_line() -> None:
    svg = line_chart(
        [Series("<b>", ((0, 1.0), (10, 0.5)), (1, 2, 3)), Series("mean", ((0, 0.2), (10, 0.4)))],
        x_label="a<b",
        y_label="loss",
    )
    assert "<b>" not in svg and "&lt;b&gt;" in svg and "a&lt;b" in svg
    assert svg.count("<path") == 2 and "rgb(1, 2, 3)" in svg


def test_a_chart_of_nothing_is_nothing() -> None:
    assert line_chart([Series("loss", ())], x_label="step", y_label="loss") == ""
    nan = float("nan")
    assert line_chart([Series("loss", ((0, nan),))], x_label="step", y_label="loss") == ""


def test_one_point_makes_a_chart() -> None:
    svg = line_chart([Series("loss", ((3, 0.0),))], x_label="step", y_label="loss")
    assert svg.count("<circle") == 1


def test_long_series_are_averaged_without_losing_their_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(6000)]
    few = thinned(points)
    assert len(few) == 300
    assert np.mean([y for _, y in few]) == pytest.approx(np.mean([y for _, y in points]))
