"""What validation teaches of components: learnt as training ends, kept in the model's card."""

import numpy as np
import pytest

from pipeline.components import ClassRule, Cleanup
from pipeline.io.files import read_json
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import read_card, save_model, write_card
from pipeline.space import Window
from pipeline.tiled import TiledNetwork
from pipeline.training import train
from pipeline.training.cleanup import _case, learn_cleanup
from pipeline.training.validate import validate
from tests.stages import predicted
from tests.trained import random_network, small_plan
from tests.training.small import ALONE, CPU, places, recipe, the_task

pytestmark = pytest.mark.usefixtures("in_this_process")


def silent(*_):
    """Say nothing."""


@pytest.fixture
def task(run):
    """A training whose weights are random: its masks are full of specks."""
    task = the_task(small_plan(3), recipe(precision="float32"), **places(run))
    task.checkpoints.mkdir()
    save_model(
        task.checkpoints / "best.pt",
        random_network(task.plan).state_dict(),
        task.plan,
        {"steps": 0, "position": 0, "val_score": None},
    )
    return task


def test_the_numbers_learnt_from_are_those_of_validation(task):
    plan, model = task.plan, CPU.place(random_network(task.plan), 3)
    network = TiledNetwork(model, task.tiling, CPU, plan.decision, plan.mask_dtype)
    told = validate(model, task.validation, plan, task.tiling, CPU, ALONE)
    cases = [_case(network, VolumeStore(p), plan, task.checkpoints) for p in task.validation]
    dice = np.nanmean([case.dice(Cleanup()) for case in cases], axis=0)
    assert dice[1:].tolist() == pytest.approx([told["classes"][n] for n in ("liver", "tumour")])
    assert not list(task.checkpoints.glob("tmp*"))


def test_what_is_learnt_makes_validation_masks_better(task):
    learned = learn_cleanup([task], silent)
    assert learned.cleanup.active
    gained = [c.after - c.before for c in learned.choices]
    assert max(gained) > 1e-4 and min(gained) >= 0
    assert "Dice" in learned.sentences("mm³")[0]


def test_a_training_ends_with_it_once_and_predictions_follow(run):
    told = []

    def note(stage, done, total, said):
        told.append(said)

    def trained(**changes):
        told.clear()
        return train(small_plan(3), recipe(bundle=False, **changes), **places(run), progress=note)

    card = trained()
    facts = read_json(run / "checkpoints/train.json")
    assert [s.partition(":")[0] for s in facts["cleanup"]] == ["liver", "tumour"]
    assert read_card(run / "checkpoints/best.pt") == card
    assert any(said.startswith("components of") for said in told)
    assert trained() == card
    assert not any(said.startswith("components of") for said in told)

    ruled = card.model_copy(update={"cleanup": Cleanup(rules={2: ClassRule(smallest=1e9)})})
    write_card(run / "checkpoints/best.pt", ruled)
    masks = predicted(run, run / "checkpoints/best.pt")
    assert all(2 not in np.unique(_labels(mask)) for mask in masks)

    assert trained(cleanup=False).cleanup == Cleanup()
    assert read_json(run / "checkpoints/train.json")["cleanup"] == []


def _labels(mask):
    store = MaskStore(mask)
    return store.read(Window.whole(store.grid.shape))
