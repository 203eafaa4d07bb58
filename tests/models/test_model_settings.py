"""Settings say what is wrong with them, and travel as JSON."""

import pytest
from pydantic import ValidationError

from models import UNetSettings


def test_settings_survive_json(build_settings):
    settings = build_settings(3, norm="group", dropout=0.1)
    assert UNetSettings.model_validate_json(settings.model_dump_json()) == settings


def test_settings_are_frozen(build_settings):
    with pytest.raises(ValidationError, match="frozen"):
        build_settings().dropout = 0.5


def test_json_schema_keeps_constraints_and_docstrings():
    schema = UNetSettings.model_json_schema()["properties"]
    assert schema["dropout"]["anyOf"][0]["exclusiveMaximum"] == 1
    assert schema["features"]["items"]["minimum"] == 1
    assert all(field["description"] for field in schema.values())


def test_total_stride_is_the_product_over_stages(build_settings):
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 3))
    assert build_settings(3, strides=strides).total_stride == (2, 4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (3, 4)}, "features has 2 stages, strides has 3: give features"),
        ({"kernels": ((3, 3),) * 2}, "features has 3 stages, kernels has 2: give features"),
        ({"strides": ((1, 1), (2, 2, 2), (2, 2))}, r"strides has \(2, 2, 2\) in .* ndim=2: give"),
        ({"strides": ((2, 2), (2, 2), (2, 2))}, r"starts with \(2, 2\).* start with \(1, 1\)"),
        ({"kernels": ((3, 3), (2, 2), (3, 3))}, r"kernels has \(2, 2\).* use odd sizes"),
        (
            {"kernels": ((3, 3), (1, 3), (3, 3)), "padding": "valid"},
            r"stride \(2, 2\) is larger than kernel \(1, 3\).* downsampling='max_pool'",
        ),
        ({"dropout": 1.0}, "less than 1"),
        ({"dropout": (0.1, 0.2)}, "dropout has 2 shares for 3 stages: give one number, or one"),
        ({"deep_supervision": 2}, "deep_supervision is 2 with 3 stages: .* there are 1, use at"),
        ({"deep_supervision": 1, "padding": "valid"}, "shrinks a stage.*: use padding='same', or"),
        ({"blocks": "residual", "padding": "valid"}, "shrinks a stage.*: use padding='same', or"),
        ({"align_corners": True}, "align_corners needs something to interpolate: use upsampling="),
        ({"features": ()}, "at least 1 item"),
        ({"norms": "batch"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_work_say_what_to_change(build_settings, changes, message):
    with pytest.raises(ValidationError, match=message):
        build_settings(**changes)
