"""Recipes other than the default, trained for a few steps in this process."""

import pytest
import torch

from models import build_model, preset
from models.losses import (
    BCESettings,
    BorderSettings,
    CrossEntropySettings,
    DeepSupervision,
    DiceCESettings,
)
from models.optimisers import (
    AdamSettings,
    AdamWSettings,
    OneCycleSchedule,
    PolySchedule,
    RMSpropSettings,
    SGDSettings,
)
from pipeline.io.files import read_jsonl
from pipeline.model_file import load_model
from pipeline.plan_file import Plan
from pipeline.training.loss import PlannedLoss
from pipeline.training.settings import ElasticSettings
from tests.trained import small_plan
from tests.training.small import alone, cut, recipe

SCENES = {
    "channels": ("0", "1", "2"),
    "classes": [{"name": "ground"}, {"name": "forest"}],
}


def planned(network, patch_shape=(32, 32), **changes):
    fields = small_plan(2, channels=3).model_dump() | SCENES
    return Plan.model_validate(fields | {"network": network, "patch_shape": patch_shape} | changes)


@pytest.fixture
def go(make_pairs, take_in, tmp_path):
    """Give a function that cuts patches for a plan and trains on them."""
    take_in(make_pairs(tmp_path / "data", cases=5, side=40), tmp_path)

    def run(plan, settings):
        cut(tmp_path, plan, per_case=2)
        alone(tmp_path, settings, "checkpoints", plan)
        return tmp_path / "checkpoints"

    return run


SMALL = small_plan(2, channels=3).network.model_copy(update={"out_channels": 2})
BORDER = CrossEntropySettings(border=BorderSettings(), class_weights=(2, 1))


@pytest.mark.parametrize(
    ("plan", "settings"),
    [
        pytest.param(
            planned(preset("unet-2015", 2, 3, 2), (188, 188), loss=BORDER, batch_size=1),
            recipe(
                optimiser=SGDSettings(learning_rate=1e-4, nesterov=False),
                schedule=PolySchedule(),
                ema_decay=0,
                elastic=ElasticSettings(),
                max_steps=2,
            ),
            id="unet-2015",
        ),
        pytest.param(
            planned(preset("unet-small", 2, 3, 2), loss=BCESettings(dice=True)),
            recipe(optimiser=AdamSettings()),
            id="unet-small",
        ),
        pytest.param(
            planned(
                SMALL.model_copy(update={"deep_supervision": 1, "norm": "instance"}),
                loss=DiceCESettings(),
            ),
            recipe(optimiser=SGDSettings(), schedule=OneCycleSchedule()),
            id="deep-supervision",
        ),
        pytest.param(
            planned(preset("resnet18-unet", 2, 3, 2), (64, 64)),
            recipe(optimiser=RMSpropSettings()),
            id="encoder",
        ),
    ],
)
def test_a_recipe_trains_validates_and_gives_a_model_that_loads(go, plan, settings):
    folder = go(plan, settings)
    network, card = load_model(folder / "best.pt")
    assert network.settings == plan.network
    rows = read_jsonl(folder / "log.jsonl")
    assert [row["kind"] for row in rows].count("val") == 2
    assert card.training["val_score"] == max(r["score"] for r in rows if r["kind"] == "val")
    fresh = build_model(plan.network).state_dict()
    torch.manual_seed(settings.seed)
    untrained = build_model(plan.network).state_dict()
    trained = network.state_dict()
    assert fresh.keys() == trained.keys()
    assert any(not torch.equal(trained[name], untrained[name]) for name in trained)


def test_training_ends_when_validations_bring_no_progress(go):
    still = AdamWSettings(learning_rate=1e-30, weight_decay=0)
    network = SMALL.model_copy(update={"norm": "none"})
    settings = recipe(optimiser=still, max_steps=40, validations=20, patience=3)
    rows = read_jsonl(go(planned(network), settings) / "log.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "val"] == [2, 4, 6, 8]


def test_a_backbone_starts_from_the_weights_of_a_file(go, tmp_path):
    torch.manual_seed(7)
    trained = build_model(preset("resnet18-unet", 2, 3, 1)).encoder.state_dict()
    torch.save(trained, tmp_path / "resnet18.pt")
    network = preset("resnet18-unet", 2, 3, 2, encoder_weights=str(tmp_path / "resnet18.pt"))
    still = AdamWSettings(learning_rate=1e-30, weight_decay=0)
    folder = go(planned(network, (64, 64)), recipe(optimiser=still, max_steps=1))
    (tmp_path / "resnet18.pt").unlink()  # a trained model needs no other weights than its own
    found, _ = load_model(folder / "best.pt")
    assert torch.equal(found.encoder.state_dict()["conv1.weight"], trained["conv1.weight"])


def test_the_loss_of_an_unpadded_network_is_that_of_the_middle():
    plan = planned(preset("unet-2015", 2, 3, 2), (188, 188), loss=BORDER)
    torch.manual_seed(0)
    label, weight = torch.randint(0, 2, (1, 188, 188)), torch.rand(1, 188, 188)
    logits = torch.randn(1, 2, 4, 4)
    loss = PlannedLoss(plan)(logits, {"label": label, "weight": weight})
    middle = (slice(None), slice(92, 96), slice(92, 96))
    terms = torch.nn.functional.cross_entropy(logits, label[middle], reduction="none")
    # The map holds the class weights already: nothing else weighs.
    torch.testing.assert_close(loss, (terms * weight[middle]).mean())


def test_every_head_of_a_network_learns():
    plan = planned(SMALL.model_copy(update={"deep_supervision": 1}))
    label = torch.randint(0, 2, (2, 32, 32))
    heads = [torch.randn(2, 2, 32, 32), torch.randn(2, 2, 16, 16)]
    whole = PlannedLoss(plan)
    alone = [
        whole(heads[0], {"label": label}),
        whole(heads[1], {"label": label[:, ::2, ::2]}),
    ]
    expected = (alone[0] + alone[1] / 2) / 1.5
    torch.testing.assert_close(whole(heads, {"label": label}), expected)
    assert isinstance(whole._loss, DeepSupervision)
