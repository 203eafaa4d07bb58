"""What is kept of the training cases."""

import json

import pytest

from pipeline.drift import DriftSettings, Reference, find_drift, measure
from pipeline.drift.reference import VERSION
from pipeline.errors import StoreError
from pipeline.io.volume_store import VolumeStore
from tests.drift.phantoms import BY_CASE, BY_LIMITS, of, reference, scan


@pytest.fixture
def volumes(make_msd, take_in, tmp_path):
    """Stores of six cases."""
    taken = take_in(make_msd(tmp_path / "data", cases=6), tmp_path)
    return [taken.volumes / row.store for row in taken.rows.values()]


def test_figures_of_the_training_cases_are_those_of_each(volumes):
    found = Reference.of(volumes, BY_LIMITS)
    alone = [
        measure(path, VolumeStore(path).statistics["class_voxels"], BY_LIMITS) for path in volumes
    ]
    assert found.cases == 6
    assert set(found.quantities) == set(alone[0])
    for name, known in found.quantities.items():
        assert known.values == tuple(sorted(case[name] for case in alone))


def test_a_training_case_is_no_drift(volumes):
    found = Reference.of(volumes, BY_CASE)
    truth = VolumeStore(volumes[0]).statistics["class_voxels"]
    cases = {"liver_0": measure(volumes[0], truth, BY_CASE)}
    assert find_drift(DriftSettings(), found, cases) == []


def test_a_reference_is_kept_as_json(volumes):
    found = Reference.of(volumes, BY_CASE)
    assert Reference.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_four_training_cases_are_too_few():
    assert reference(BY_CASE, [scan(seed) for seed in range(4)]).too_few
    assert not reference(BY_CASE, [scan(seed) for seed in range(5)]).too_few
    few = of(values=(1.0, 2.0, 3.0, 4.0))
    assert find_drift(DriftSettings(), few, {"new": {"mean of channel 0": 1000.0}}) == []


def test_figures_that_few_training_cases_have_are_not_compared():
    few = Reference(20, of(values=(1.0, 2.0, 3.0, 4.0)).quantities)
    assert find_drift(DriftSettings(), few, {"new": {"mean of channel 0": 1000.0}}) == []


def test_figures_of_another_version_are_refused():
    told = of(values=(1.0,) * 5).to_json() | {"version": VERSION + 1}
    with pytest.raises(StoreError, match=f"of version {VERSION + 1}, .*gather them again"):
        Reference.from_json(told)


@pytest.mark.parametrize("damage", [{"quantities": None}, {"quantities": {"a": {}}}, {"cases": ""}])
def test_damaged_figures_are_refused(damage):
    with pytest.raises(StoreError, match="are damaged .*gather them again from the volume stores"):
        Reference.from_json(of(values=(1.0,) * 5).to_json() | damage)
