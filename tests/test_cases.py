"""Data settings refuse what contradicts itself."""

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import CaseError
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.truth import LabelLookup

FIELDS = {"root": "data", "layout": "pairs"}


def classes(*values, **changes):
    return tuple({"name": f"c{v}", "values": (v,), **changes} for v in values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": classes(1)}, "at least two classes are needed"),
        ({"classes": classes(1, 1)}, "class name 'c1' stands twice"),
        (
            {"classes": ({"name": "a", "values": (1,)}, {"name": "b", "values": (1, 2)})},
            "mask value 1 stands twice: each belongs to one class",
        ),
        ({"classes": classes(0, 1, background=True)}, "only the first class may be marked"),
        ({"classes": classes(0, 1), "ignore_values": (1,)}, "value 1 is both of a class and in"),
        ({"classes": classes(0, 1), "group": "("}, r"'\(' is not a regular expression"),
        ({"classes": classes(0, 1), "imagse": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        DataSettings(**FIELDS, **fields)


@pytest.mark.parametrize(
    ("pattern", "case", "group"),
    [
        (None, "p12_s3", "p12_s3"),
        (r"p\d+", "p12_s3", "p12"),
        (r"p(\d+)_", "p12_s3", "12"),
        (r"q\d+", "p12_s3", "p12_s3"),
    ],
)
def test_a_group_is_the_patterns_first_group_or_its_match_or_the_case(pattern, case, group):
    data = DataSettings(**FIELDS, classes=classes(0, 1), group=pattern)
    assert data.group_of(case) == group


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "float32", "float64"])
def test_labels_are_looked_up_in_every_type_of_mask(dtype):
    settings = (
        ClassSettings(name="a", values=(0, 7)),
        ClassSettings(name="b", values=(100,)),
    )
    lookup = LabelLookup(settings, ignore_values=(50,))
    values = np.array([[0, 100, 7], [50, 0, 7]], dtype)
    np.testing.assert_array_equal(lookup.truth(values), [[0, 1, 0], [255, 0, 0]])
    assert lookup.truth(values).dtype == np.uint8
    with pytest.raises(CaseError, match=r"the value 101, which is of no class \(known: 0, 7, 50,"):
        lookup.truth(np.array([0, 101], dtype))


def test_a_fraction_is_of_no_class():
    lookup = LabelLookup((ClassSettings(name="a", values=(0, 1)),), ())
    with pytest.raises(CaseError, match=r"holds the value 0.5, which is of no class"):
        lookup.truth(np.array([0, 0.5, 1]))
