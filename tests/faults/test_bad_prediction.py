"""Cases unlike the training set, and settings that cannot be met: a sentence with the remedy."""

import re

import pytest

from pipeline.errors import SettingsError
from pipeline.io.files import read_json, write_json
from pipeline.io.volume_store import VolumeStore
from tests.test_predict import cases, go, run  # noqa: F401  a fixture
from tests.trained import small_plan, write_model


def test_mirror_images_are_refused_where_the_model_never_learnt_of_them(run):  # noqa: F811
    sidecar = run / "best.json"
    card = read_json(sidecar)
    card["training"]["mirrored"] = False
    write_json(sidecar, card)
    with pytest.raises(SettingsError, match="not trained on mirror images: train it with"):
        go(run, mirror=True)


def planned(run, **update):  # noqa: F811
    """Give the run's model another plan."""
    card = read_json(run / "best.json")
    card["plan"] |= update
    write_json(run / "best.json", card)


def test_voxels_far_from_the_training_cases_are_refused_unless_any_is_taken(run):  # noqa: F811
    z, y, x = VolumeStore(cases(run)[0].store).grid.spacing
    planned(run, trained_spacings=[[z, z], [y, y], [2 * x, 3 * x]])
    done = go(run)
    assert not done.masks
    (row, *_) = done.refused
    assert row.reason == (
        f"its voxels measure {x:.4g} mm along x, those of the training cases {2 * x:.4g} to "
        f"{3 * x:.4g} mm, and the plan brings no case to another spacing."
    )
    assert "predict.any_spacing" in row.remedy
    assert len(go(run, any_spacing=True).masks) == 3
    planned(run, trained_spacings=[[z, z], [y, y], [1.2 * x, 3 * x]])
    assert len(go(run, "near").masks) == 3


def test_values_of_another_range_are_refused(run):  # noqa: F811
    scaling = {"mean": 1e6, "std": 5.0, "lower": 9e5, "upper": None}
    planned(run, normalisation={"kind": "dataset", "channels": [scaling]})
    done = go(run)
    assert not done.masks
    assert (
        "(1st and 99th percentile), those of the training cases above 900000"
        in done.refused[0].reason
    )


def test_exact_tiles_are_refused_to_a_network_that_has_none(run):  # noqa: F811
    write_model(run, small_plan(3, norm="instance"))
    with pytest.raises(SettingsError, match="predict.blend is exact, but the network keeps"):
        go(run, blend="exact")
    assert go(run, tile=None).masks


@pytest.mark.parametrize("norm", ["batch", pytest.param("instance", marks=pytest.mark.slow)])
def test_a_limit_that_holds_no_tile_is_refused_with_what_is_needed(run, norm):  # noqa: F811
    write_model(run, small_plan(3, norm=norm))
    with pytest.raises(
        SettingsError, match="holds no tile: the smallest pass that is left"
    ) as refusal:
        go(run, tile=None, memory_gb=1e-6)
    enough = float(re.search(r"needs ([0-9.]+);", str(refusal.value)).group(1))
    assert go(run, tile=None, memory_gb=enough).masks
