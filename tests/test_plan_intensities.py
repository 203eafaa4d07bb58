"""How the planner brings intensities to one scale."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import StoreError
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.manifest import usable_cases
from pipeline.normalise import Normalisation, normalise
from pipeline.planning import Fingerprint, PlanSettings, fingerprint
from pipeline.planning.intensities import plan_normalisation
from pipeline.space import Volume, Window, voxel_grid
from pipeline.statistics import CaseStatistics

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="ship", values=(1,)),
)
DATA = DataSettings(root="unread", layout="pairs", classes=CLASSES)
RANDOM = np.random.default_rng(0)


def told(array, truth=None, background=0):
    """Give the statistics that ingest stores of a case."""
    shape = array.shape[1:]
    found = CaseStatistics(shape, array.dtype, len(array), 2, background, shape)
    truth = np.zeros(shape, np.uint8) if truth is None else truth
    found.add(Window.whole(shape), Volume(array, voxel_grid(shape)), truth)
    return found.to_json()


def found(statistics, **about):
    return Fingerprint(
        **{
            "ndim": 2,
            "channels": tuple(str(c) for c in range(len(statistics[0]["channels"]))),
            "median_shape": (64, 64),
            "spacing": (1.0, 1.0),
            "unit": None,
            "scenes": False,
            "dtype": "uint16",
            "cases": len(statistics),
            "statistics": tuple(statistics),
            **about,
        }
    )


def decide(dataset, data=DATA, **settings):
    reasons = {}
    made = plan_normalisation(data, PlanSettings(**settings), dataset, reasons)
    return made, reasons["normalisation"]


def scenes(shape=(3, 64, 64), cases=6):
    return [RANDOM.normal(1000, 100, shape).astype(np.uint16) for _ in range(cases)]


def test_saturated_pixels_of_a_scene_do_not_rule_the_scale():
    clean = scenes()
    glitched = [image.copy() for image in clean]
    glitched[2][:, :3, :5] = 65_535
    made, reason = decide(found([told(image) for image in glitched], scenes=True))
    for c, scaling in enumerate(made.channels):
        pixels = np.concatenate([image[c].ravel() for image in clean]).astype(float)
        lower, upper = np.percentile(pixels, [0.5, 99.5])
        clipped = pixels.clip(lower, upper)
        assert scaling.lower == pytest.approx(lower, abs=20)
        assert scaling.upper == pytest.approx(upper, abs=40)
        assert scaling.mean == pytest.approx(clipped.mean(), abs=2)
        assert scaling.std == pytest.approx(clipped.std(), rel=0.03)
    scaled = normalise(Volume(glitched[2], voxel_grid((64, 64))), made.channels)
    assert abs(scaled).max() < 4
    assert "0.5 and 99.5 percentiles over the dataset" in reason and "glitches" in reason


def test_pooling_weighs_cases_by_their_pixels():
    large, small = np.full((2, 100, 100), 10, np.uint8), np.full((2, 10, 10), 200, np.uint8)
    large[:, :50] = 30
    made, _ = decide(found([told(large), told(small)], scenes=True))
    assert made.channels[0].upper == 200  # one percent of the pixels are
    assert made.channels[0].mean == pytest.approx((20 * 10_000 + 200 * 100) / 10_100, abs=1)


def test_photographs_with_much_black_and_white_keep_every_colour():
    photograph = RANDOM.integers(0, 256, (3, 64, 64)).astype(np.uint8)
    photograph[:, :10], photograph[:, -10:] = 0, 255
    made, _ = decide(found([told(photograph)]))
    assert all((s.lower, s.upper) == (0, 255) for s in made.channels)
    assert made.channels[0].mean == pytest.approx(photograph[0].mean(), abs=2)
    assert made.channels[0].std == pytest.approx(photograph[0].std(), rel=0.02)


def test_what_is_rare_and_wanted_is_not_clipped_away():
    sea, truth = RANDOM.integers(20, 30, (3, 100, 100)).astype(np.uint8), np.zeros((100, 100), "u1")
    sea[:, 50, 50:60], truth[50, 50:60] = np.arange(150, 250, 10), 1  # a thousandth
    made, reason = decide(found([told(sea, truth)]))
    assert made.channels[0].lower == 20
    assert made.channels[0].upper > 235
    assert "those of its foreground where they lie further out" in reason


def test_a_band_of_nearly_one_value_is_left_unclipped_and_of_one_value_undivided():
    image = np.zeros((3, 100, 100), np.uint8)
    image[0] = RANDOM.integers(0, 255, (100, 100))
    image[1, 3, 3:9] = 90
    image[2] = 7
    made, reason = decide(found([told(image)]))
    rare, constant = made.channels[1:]
    assert (rare.lower, rare.upper) == (None, None)
    assert rare.std == pytest.approx(image[1].std())
    assert (constant.mean, constant.std) == (7, 1)
    assert "being nearly all of one value: 1, 2" in reason
    scaled = normalise(Volume(image, voxel_grid((100, 100))), made.channels)
    assert (scaled[2] == 0).all()


def test_floats_that_differ_by_rounding_alone_are_not_divided_by_it():
    image = np.full((1, 64, 64), 0.1, np.float32)
    image[0, 0, 0] = np.nextafter(np.float32(0.1), np.float32(1))
    for about in ({"scenes": True}, {}):
        made, _ = decide(found([told(image)], **about))
        scaled = normalise(Volume(image, voxel_grid((64, 64))), made.scalings(told(image)))
        assert abs(scaled).max() < 1e-6


def test_ct_is_scaled_by_the_foreground_and_each_case_counts_alike():
    image, truth = RANDOM.normal(-900, 50, (1, 64, 64)).astype(np.int16), np.zeros((64, 64), "u1")
    truth[:20] = 1
    image[0, :20] = RANDOM.normal(60, 10, (20, 64))
    other, few = image.copy(), np.zeros((64, 64), "u1")
    other[0, 30, :40], few[30, :40] = RANDOM.normal(200, 10, 40), 1
    data = DATA.model_copy(update={"modality": "ct"})
    made, _ = decide(found([told(image, truth), told(other, few)]), data)
    large, small = image[0, :20].astype(float).ravel(), other[0, 30, :40].astype(float)
    inside = np.concatenate([large, small.repeat(large.size // small.size)])
    lower, upper = np.percentile(inside, [0.5, 99.5])
    (scaling,) = made.channels
    assert (scaling.mean, scaling.std) == pytest.approx((inside.mean(), inside.std()))
    assert scaling.lower == pytest.approx(lower, abs=2)
    assert scaling.upper == pytest.approx(upper, abs=4)


def test_volumes_of_several_channels_are_scans_and_no_colours():
    scan = told(RANDOM.normal(100, 9, (2, 8, 8, 8)).astype(np.float32))
    made, reason = decide(found([scan], ndim=3, spacing=(1.0,) * 3))
    assert (made.kind, made.nonzero) == ("case", False)
    assert "intensities have no common scale" in reason


def test_where_a_quarter_is_cropped_zeros_are_left_out():
    scan = found([told(np.ones((1, 8, 8, 8), np.int16))], ndim=3)
    assert decide(replace(scan, nonzero_share=0.75))[0] == Normalisation(kind="case")
    made, reason = decide(replace(scan, nonzero_share=0.74))
    assert made == Normalisation(kind="case", nonzero=True)
    assert "box of what is not 0 is 74% of a case (nnU-Net's limit is 75%)" in reason


def test_what_is_set_is_respected_and_said():
    scan = found([told(np.ones((1, 8, 8), np.int16))], nonzero_share=0.3)
    for setting in ("case", "nonzero", "dataset"):
        made, reason = decide(scan, normalisation=setting)
        assert made.kind == ("dataset" if setting == "dataset" else "case")
        assert made.nonzero == (setting == "nonzero")
        assert reason.startswith(f"set in plan.normalisation: {setting}; ")


def test_the_fingerprint_knows_how_much_of_a_case_is_not_zero(
    make_msd, take_in, write_scan, tmp_path
):
    data = make_msd(tmp_path / "data", cases=3)
    for number, path in enumerate(sorted((tmp_path / "data" / "imagesTr").iterdir())):
        image = np.zeros((10, 10, 10), np.float32)
        image[: 2 + number, :5] = 3
        image[0, 0, 0] = 0
        write_scan(path, image)
        write_scan(tmp_path / "data" / "labelsTr" / path.name, np.ones((10, 10, 10), np.uint8))
    taken = take_in(data, tmp_path)
    rows = usable_cases(tmp_path / "manifest.jsonl", ["train"])
    shares = [0.1 + 0.05 * int(row.id[-1]) for row in rows]
    assert fingerprint(rows, taken.volumes).nonzero_share == pytest.approx(np.median(shares))


def test_stores_that_cannot_tell_and_plans_that_contradict_themselves_are_refused():
    with pytest.raises(StoreError, match=r"run `segflow ingest` again"):
        Normalisation(kind="case", nonzero=True).scalings({"channels": [{"mean": 1, "std": 1}]})
    with pytest.raises(ValidationError, match="nonzero goes with kind case, not dataset"):
        Normalisation(kind="dataset", nonzero=True)


def test_colours_without_a_scale_in_common_are_scaled_image_by_image():
    """Microscopy of two kinds: a dim one, which most are of, and a bright one."""
    dim = [RANDOM.normal(20, 5, (3, 64, 64)).clip(0).astype(np.uint8) for _ in range(6)]
    bright = [RANDOM.normal(180, 40, (3, 64, 64)).clip(0, 255).astype(np.uint8) for _ in range(3)]
    made, reason = decide(found([told(image) for image in dim + bright]))
    assert made == Normalisation(kind="case")
    assert "the median case spans 6% of what all do" in reason
    for alike in (dim, bright):
        made, _ = decide(found([told(image) for image in alike]))
        assert made.kind == "dataset"
    made, _ = decide(found([told(image) for image in dim + bright], scenes=True))
    assert made.kind == "dataset"
