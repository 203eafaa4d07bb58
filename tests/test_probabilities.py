import shutil

import numpy as np
import pytest
import torch
from ome_zarr_models.v05.image import Image

from models.losses import BCESettings
from models.losses.settings import MSESettings
from pipeline.errors import SettingsError
from pipeline.io.companion_store import Companion, CompanionWriter, ProbabilityStore
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import load_model
from pipeline.normalise import normalise
from pipeline.plan_file import PlannedTarget
from pipeline.predict.tasks import WithProbabilities
from pipeline.processor import best_processor, forward
from pipeline.space import Window
from tests.test_predict import SHAPE, cases, go, run  # noqa: F401  a fixture
from tests.trained import small_plan, write_model

PROBABILITIES = Companion.probabilities(("background", "liver", "tumour"))


def test_probabilities_are_those_of_one_pass_in_eight_bits(run):  # noqa: F811
    done = go(run, tile=(24, 24, 24), precision="float32", probabilities=True)
    network, card = load_model(run / "best.pt")
    processor = best_processor(3, "cpu", "float32")
    placed = processor.place(network, 3)
    volume = VolumeStore(cases(run)[0].store)
    voxels = normalise(
        volume.read(Window.whole(SHAPE)), card.plan.normalisation.scalings(volume.statistics)
    )
    padding = [(0, 0), *((0, -n % 4) for n in SHAPE)]
    logits = forward(placed, np.pad(voxels, padding)[None], processor)[0]
    expected = logits.softmax(0).numpy()[(slice(None), *Window.whole(SHAPE).slices)]

    store = ProbabilityStore(PROBABILITIES.path(done.masks[0]))
    assert store.channels == ("background", "liver", "tumour")
    found = store.read(Window.whole(SHAPE))
    assert np.abs(found - expected).max() < 1 / 510 + 1e-5
    labels = MaskStore(done.masks[0]).read(Window.whole(SHAPE))
    sure = np.ptp(np.sort(found, axis=0)[-2:], axis=0)
    assert np.array_equal(found.argmax(0)[sure > 0.01], labels[sure > 0.01])
    Image.from_zarr(store.root)


def test_masks_are_the_same_with_probabilities_and_without(run, tree):  # noqa: F811
    go(run, "without")
    go(run, "masks", probabilities=True)
    made = {p: b for p, b in tree(run / "masks").items() if not p.startswith("probabilities/")}
    assert made == tree(run / "without")


@pytest.mark.parametrize("gone", [pytest.param("both", marks=pytest.mark.slow), "mask"])
def test_probabilities_are_made_when_they_are_asked_for_later(run, tree, times, gone):  # noqa: F811
    go(run, "whole", probabilities=True)
    go(run)
    go(run, probabilities=True)
    assert tree(run / "masks") == tree(run / "whole")
    before = times(run / "masks")
    go(run, probabilities=True)
    go(run)
    assert times(run / "masks") == before
    for case in cases(run):
        shutil.rmtree(case.final)
        if gone == "both":
            shutil.rmtree(PROBABILITIES.path(case.final))
    go(run, probabilities=True)
    assert tree(run / "masks") == tree(run / "whole")


def test_a_kill_between_the_two_stores_leaves_nothing_to_do_again(
    run,  # noqa: F811
    tree,
    monkeypatch,
):
    go(run, "whole", probabilities=True)
    finish = CompanionWriter.finish

    def killed_after(self):
        finish(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(CompanionWriter, "finish", killed_after)
    with pytest.raises(KeyboardInterrupt):
        go(run, probabilities=True)
    monkeypatch.undo()
    (first, *_) = cases(run)
    assert PROBABILITIES.path(first.final).exists() and not first.final.exists()
    stands = PROBABILITIES.path(first.final).stat().st_mtime_ns
    go(run, probabilities=True)
    assert PROBABILITIES.path(first.final).stat().st_mtime_ns == stands
    assert tree(run / "masks") == tree(run / "whole")


def test_regions_have_probabilities_of_their_own():
    loss = BCESettings(regions=((1, 2), (2,)))
    network = small_plan(2).network.model_copy(update={"out_channels": 2})
    plan = small_plan(2).model_copy(update={"loss": loss, "network": network})
    assert plan.output_names == ("liver+tumour", "tumour")
    logits = torch.tensor([[[2.0]], [[-1.0]]])
    made = WithProbabilities(plan.decision)(logits)
    sigmoid = (logits.sigmoid() * 255).round()
    assert made[0].item() == 1 and torch.equal(made[1:].float(), sigmoid)


def test_a_regression_has_no_probabilities(run):  # noqa: F811
    plan = small_plan(3)
    target = PlannedTarget(name="height", mean=0.0, std=1.0)
    network = plan.network.model_copy(update={"out_channels": 1})
    update = {"classes": (), "target": target, "loss": MSESettings(), "network": network}
    write_model(run, plan.model_copy(update=update))
    with pytest.raises(SettingsError, match="a regression has none"):
        go(run, probabilities=True)
