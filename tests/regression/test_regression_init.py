"""A folder of images and numbers is recognised as a regression, and as nothing else."""

import h5py
import numpy as np
import pytest
import yaml

from pipeline.errors import SettingsError
from pipeline.init import init
from pipeline.init.numbers import numbers_in
from pipeline.run import load_settings
from tests.regression.heights import make_heights, smooth

RANDOM = np.random.default_rng(0)
SHAPE = (64, 72)


def field(number=0, shape=SHAPE):
    """Smooth numbers from about 0 to 100."""
    return 50 + 15 * smooth(np.random.default_rng(number), shape, 5)


def flat_ground(number):
    heights = field(number)
    return np.where(heights > 60, heights, 0).astype(np.float32)


def with_a_mark(number):
    heights = field(number).astype(np.float32)
    heights[:5] = -9999
    return heights


@pytest.fixture
def lay_out(tmp_path, write_scene):
    """Images of two bands, and masks made by a function of the case's number."""

    def lay(make, masks="masks", cases=4, **options):
        for number in range(cases):
            bands = RANDOM.integers(1, 4000, (2, *SHAPE)).astype(np.uint16)
            write_scene(tmp_path / "data" / "images" / f"{number}.tif", bands)
            path = tmp_path / "data" / masks / f"{number}.tif"
            write_scene(path, np.asarray(make(number))[None], **options)
        return tmp_path / "data"

    return lay


def recognised(root, tmp_path):
    found = init(root, tmp_path / "run.yaml")
    text = (tmp_path / "run.yaml").read_text()
    assert load_settings(tmp_path / "run.yaml") == found.settings
    assert yaml.safe_load(text) == found.settings.model_dump(mode="json")
    return found.settings.data, found.summary, text


def test_float_masks_of_many_values_are_a_regression_and_the_file_says_why(tmp_path, write_scene):
    make_heights(tmp_path / "data", write_scene)
    data, summary, text = recognised(tmp_path / "data", tmp_path)
    assert (data.task, data.target, data.classes) == ("regression", "heights", ())
    assert (data.images, data.masks, data.ignore_values) == ("images", "heights", ())
    assert summary[1].startswith("regression: heights, float32 numbers from ")
    said = " ".join(text.replace("#", "").split())
    assert "In 3 masks read, most voxels have a value of their own (float32, " in said
    assert "numbers to predict, no classes" in said
    assert "Name it after what the numbers are" in said


NUMBERS = {
    "float64": lambda n: field(n),
    "int16": lambda n: (100 * field(n)).astype(np.int16),
    "uint16": lambda n: (300 * field(n)).clip(0).astype(np.uint16),
    "whole floats": lambda n: np.rint(100 * field(n)).astype(np.float32),
    "flat ground": flat_ground,
    "one is flat": lambda n: flat_ground(n) * (n > 0),
    "probabilities": lambda n: 1 / (1 + np.exp(-field(n) / 10)).astype(np.float32),
}


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_told_from_classes(tmp_path, lay_out, make):
    data, _, _ = recognised(lay_out(make), tmp_path)
    assert (data.task, data.target) == ("regression", "value")


def labels(number):
    return np.digitize(field(number), [45, 60, 70])


def objects(number):
    """Blocks of 4 x 4 voxels, each with a number of its own, in no order."""
    names = np.random.default_rng(number).permutation(16 * 18) + 1
    return np.kron(names.reshape(16, 18), np.ones((4, 4)))


def blurred(number):
    soft = labels(number).astype(np.float32)
    edge = soft[:, 1:] != soft[:, :-1]
    soft[:, 1:][edge] += np.random.default_rng(number).random(edge.sum())
    return soft


REFUSED = {
    "objects": (lambda n: objects(n).astype(np.uint16), "different values, a mask at most"),
    "float objects": (lambda n: objects(n).astype(np.float32), "different values, a mask at most"),
    "blurred": (blurred, "numbers to predict, such as heights, as float32"),
    "one byte": (lambda n: field(n).clip(0, 255).astype(np.uint8), "it looks like an image"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_may_be_something_else_is_refused_as_before(tmp_path, lay_out, make, message):
    with pytest.raises(SettingsError, match=message):
        init(lay_out(make), tmp_path / "run.yaml")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_masks_of_classes_stay_masks_of_classes(tmp_path, lay_out, dtype):
    data, _, _ = recognised(lay_out(lambda n: labels(n).astype(dtype)), tmp_path)
    assert data.task == "segmentation" and len(data.classes) == 4


@pytest.mark.parametrize("options", [{}, {"nodata": -9999}], ids=["undeclared", "declared"])
def test_a_mark_far_from_all_numbers_is_ignored_unless_the_file_declares_it(
    tmp_path, lay_out, options
):
    data, summary, text = recognised(lay_out(with_a_mark, **options), tmp_path)
    assert data.ignore_values == (() if options else (-9999,))
    assert summary[1].endswith("; ignored: -9999") is not bool(options)
    assert ("far from the others: -9999" in text) is not bool(options)


def test_a_largest_number_among_its_like_is_no_mark(tmp_path, lay_out):
    values = lambda n: np.where(field(n) > 65, 65535, 900 * field(n)).clip(0, 65535)  # noqa: E731
    data, _, _ = recognised(lay_out(lambda n: values(n).astype(np.uint16)), tmp_path)
    assert data.task == "regression" and data.ignore_values == ()


def test_an_array_called_target_may_hold_numbers(tmp_path):
    for case in "12":
        (tmp_path / "data").mkdir(exist_ok=True)
        with h5py.File(tmp_path / "data" / f"{case}.h5", "w") as file:
            file["raw"] = RANDOM.integers(0, 255, SHAPE, dtype=np.uint8)
            file["target_depth"] = field(int(case)).astype(np.float32)
    data, _, _ = recognised(tmp_path / "data", tmp_path)
    assert (data.images, data.masks) == ("{case}.h5::raw", "{case}.h5::target_depth")
    assert (data.task, data.target) == ("regression", "depth")


def test_of_no_masks_nothing_is_said():
    assert numbers_in([]) is None
