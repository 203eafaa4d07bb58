"""Trainings that go on: to other limits, from other weights, in parts, on several processes."""

import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models import build_model
from pipeline.errors import ModelError, TrainingError
from pipeline.io.files import read_jsonl
from pipeline.model_file import load_model, read_card
from pipeline.plan_file import PlannedClass
from pipeline.processor import Processor
from pipeline.training import train
from pipeline.training.fine_tuning import start_from
from pipeline.training.loop import train_rank
from tests.trained import random_network, small_plan, write_model
from tests.training.small import ALONE, CPU, alone, places, recipe, same, tensors, the_task


def losses(run, name):
    rows = read_jsonl(run / name / "log.jsonl")
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def test_two_processes_learn_what_one_learns_in_two_parts(run, monkeypatch):
    monkeypatch.setattr("pipeline.training.log.LOG_STEPS", 1)
    plan = small_plan(3).model_copy(update={"batch_size": 4})
    places_of = {name: places(run, name) for name in ("parts", "ranks")}
    settings = recipe(accumulate=2, precision="float32", max_steps=12)
    train_rank(the_task(plan, settings, **places_of["parts"]), ALONE, CPU)
    train(plan, recipe(processes=2, precision="float32", max_steps=12), **places_of["ranks"])
    parts, ranks = losses(run, "parts"), losses(run, "ranks")
    assert list(parts) == [*range(1, 13)] and parts[12] < parts[1]
    # Steps are logged in tens where the processes do not know of the patch above.
    assert [*ranks] == [10, 12]
    found = [np.mean([parts[s] for s in range(1, 11)]), np.mean([parts[s] for s in (11, 12)])]
    np.testing.assert_allclose(list(ranks.values()), found, rtol=1e-3)


def test_a_finished_training_goes_on_when_its_limit_is_raised(run):
    whole = alone(run, recipe(max_steps=8), "checkpoints")
    assert whole["extended_at"] == [] and whole["position"] == 8 * 2
    longer = alone(run, recipe(max_steps=14), "checkpoints")
    assert longer["extended_at"] == [16] and longer["position"] == 14 * 2
    assert {8, 14} <= {r["step"] for r in read_jsonl(run / "checkpoints/log.jsonl")}
    anew = alone(run, recipe(max_steps=14), "anew")
    assert not same(anew["model"], longer["model"])
    steps = [r["step"] for r in read_jsonl(run / "checkpoints/log.jsonl")]
    assert steps == sorted(steps) and steps[-1] == 14
    # Told to end where it has been already, it is another training.
    assert same(alone(run, recipe(max_steps=8), "checkpoints")["model"], whole["model"])


def test_tensorboard_holds_the_rows_of_the_log(run):
    alone(run, recipe(max_steps=12), "checkpoints")
    alone(run, recipe(max_steps=20), "checkpoints")
    found = EventAccumulator(str(run / "checkpoints/tensorboard")).Reload()
    rows = read_jsonl(run / "checkpoints/log.jsonl")
    for kind, figure in (("train", "loss"), ("train", "learning_rate"), ("val", "dice")):
        expected = [(r["step"], r[figure]) for r in rows if r["kind"] == kind]
        scalars = [(s.step, s.value) for s in found.Scalars(f"{kind}/{figure}")]
        assert len(expected) >= 3
        np.testing.assert_allclose(scalars, expected, rtol=1e-6)
    assert {"val/liver", "val/tumour"} <= set(found.Tags()["scalars"])
    alone(run, recipe(tensorboard=False), "without")
    assert not (run / "without/tensorboard").exists()


def test_another_recipe_is_another_training(run):
    first = alone(run, recipe(), "checkpoints")
    changed = alone(run, recipe(augmentation=0.0, max_steps=9), "checkpoints")
    assert changed["extended_at"] == [] and changed["key"] != first["key"]
    assert same(
        changed["model"], alone(run, recipe(augmentation=0.0, max_steps=9), "anew")["model"]
    )


def test_the_stage_extends_and_says_at_which_patch(run, in_this_process):
    train(small_plan(3), recipe(), **places(run))
    card = train(small_plan(3), recipe(max_steps=12, validations=3), **places(run))
    stored = json.loads((run / "checkpoints/train.json").read_text())
    assert stored["model_id"] == card.model_id
    last = tensors(run / "checkpoints/last.pt")
    assert (last["position"], last["extended_at"]) == (12 * 2, [16])
    # The best weights may be those of the first limit.
    extended = card.training["steps"] > 8
    assert card.training.get("extended_at") == ([16] if extended else None)


def test_epochs_are_passes_over_the_patches(run):
    count = len(
        json.loads((run / "patches.zarr/zarr.json").read_text())["attributes"]["segflow"]["cases"]
    )
    settings = recipe(max_steps=None, max_epochs=1.5)
    task = the_task(small_plan(3), settings, **places(run))
    assert task.settings.max_steps == round(1.5 * count / 2)
    fewer = the_task(small_plan(3), recipe(max_steps=3, max_epochs=1.5), **places(run))
    assert fewer.settings.max_steps == 3


def test_float16_trains_with_scaled_gradients_and_goes_on(run):
    half = Processor("cpu", "float16", channels_last=True)
    state = alone(run, recipe(precision="float16"), "checkpoints", processor=half)
    assert state["scaler"]["scale"] > 1
    assert all(value.isfinite().all() for value in state["model"].values())
    longer = alone(run, recipe(precision="float16", max_steps=12), "checkpoints", processor=half)
    assert longer["scaler"]["_growth_tracker"] > state["scaler"]["_growth_tracker"]


def named(plan, *names):
    classes = tuple(PlannedClass(name=n, background=n == "background") for n in names)
    network = plan.network.model_copy(update={"out_channels": len(names)})
    return plan.model_copy(update={"classes": classes, "network": network})


def test_of_another_class_set_the_outputs_of_the_same_name_are_kept(tmp_path):
    theirs = small_plan(3)  # background, liver, tumour
    path = write_model(tmp_path, theirs, seed=1)
    mine = named(theirs, "background", "tumour", "vessel", "liver")
    torch.manual_seed(2)
    network = build_model(mine.network)
    drawn = {name: value.clone() for name, value in network.state_dict().items()}
    partly = start_from(network, mine, path)
    given, state = load_model(path)[0].state_dict(), network.state_dict()
    assert set(partly) == {
        name for name in state if state[name].shape[:1] == (4,) and "head" in name
    }
    assert partly
    for name, value in state.items():
        if name in partly:
            for output, other in ((0, 0), (1, 2), (3, 1)):
                assert torch.equal(value[output], given[name][other])
            assert torch.equal(value[2], drawn[name][2])
        else:
            assert torch.equal(value, given[name])


def test_the_same_number_of_other_classes_is_another_head(tmp_path):
    theirs = small_plan(3)
    path = write_model(tmp_path, theirs, seed=1)
    mine = named(theirs, "background", "kidney", "spleen")
    network = build_model(mine.network)
    drawn = {name: value.clone() for name, value in network.state_dict().items()}
    partly = start_from(network, mine, path)
    state = network.state_dict()
    assert partly and all(torch.equal(state[n][1:], drawn[n][1:]) for n in partly)


def test_weights_of_another_network_are_refused(tmp_path, run):
    path = write_model(tmp_path / "other", small_plan(2), seed=1)
    plan = small_plan(3)
    with pytest.raises(ModelError, match=r"another network: \d+ of \d+ numbers fit\. Set plan"):
        start_from(random_network(plan), plan, path)
    with pytest.raises(ModelError, match="no usable model"):
        the_task(plan, recipe(start_from=tmp_path / "absent.pt"), **places(run))


def test_training_begins_with_the_weights_it_is_given(run):
    path = write_model(run / "other", small_plan(3), seed=1)
    task = the_task(small_plan(3), recipe(max_steps=1, start_from=path), **places(run))
    other = the_task(small_plan(3), recipe(max_steps=1), **places(run))
    assert task.key != other.key
    still = task.settings.model_copy(
        update={"optimiser": task.settings.optimiser.model_copy(update={"learning_rate": 1e-12})}
    )
    train_rank(the_task(small_plan(3), still, **places(run)), ALONE, CPU)
    given = load_model(path)[0].state_dict()
    learnt = tensors(run / "checkpoints/last.pt")["model"]
    weights = [name for name in given if name.endswith("weight")]
    assert all(torch.allclose(given[n], learnt[n], atol=1e-6) for n in weights)
    assert read_card(run / "checkpoints/best.pt").training["steps"] == 1


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(run):
    plain = alone(run, recipe(max_steps=3), "plain")
    compiled = alone(run, recipe(max_steps=3, compile=True), "compiled")
    assert plain["model"].keys() == compiled["model"].keys()
    for name, value in plain["model"].items():
        torch.testing.assert_close(compiled["model"][name], value, rtol=1e-2, atol=1e-3)


def test_parts_that_a_batch_cannot_be_dealt_into_are_a_sentence(run):
    with pytest.raises(TrainingError, match=r"2 patches .* in 4 parts each: set plan\.batch_size"):
        train(small_plan(3), recipe(accumulate=4), **places(run))


def test_a_training_that_is_given_less_time_than_it_took_begins_anew(run):
    alone(run, recipe(), "checkpoints")
    path = run / "checkpoints/last.pt"
    state = tensors(path)
    torch.save(state | {"elapsed_s": 3600.0}, path)
    minutes = {"max_minutes": 30, "max_steps": 9}
    anew = alone(run, recipe(**minutes), "checkpoints")
    assert anew["extended_at"] == [] and anew["elapsed_s"] < 3600
    torch.save(anew | {"elapsed_s": 600.0}, path)
    longer = alone(run, recipe(max_minutes=45, max_steps=12), "checkpoints")
    assert longer["extended_at"] == [18] and longer["elapsed_s"] > 600


def test_a_limit_that_is_raised_beside_one_that_is_reached_leaves_the_model_as_it_is(run):
    whole = alone(run, recipe(max_minutes=30, max_steps=8), "checkpoints")
    model = (run / "checkpoints/best.pt").read_bytes()
    for changed in ({"max_minutes": 60}, {"max_minutes": 30, "patience": 9}):
        state = alone(run, recipe(max_steps=8, **changed), "checkpoints")
        assert same(state["model"], whole["model"]) and state["extended_at"] == []
    assert (run / "checkpoints/best.pt").read_bytes() == model


def test_a_training_that_is_given_more_time_knows_its_pace_already(run):
    path = run / "checkpoints/last.pt"
    state = alone(run, recipe(max_minutes=10, max_steps=8), "checkpoints")
    torch.save(state | {"elapsed_s": 480.0}, path)
    longer = alone(run, recipe(max_minutes=12, max_steps=50), "checkpoints")
    assert longer["position"] == 12 * 2  # eight steps in eight minutes; four more fit


@pytest.mark.slow
def test_weights_of_a_training_that_was_stopped_are_not_taken_for_a_finished_one(
    run, in_this_process
):
    first = train(small_plan(3), recipe(), **places(run))
    other = the_task(small_plan(3), recipe(augmentation=0.0), **places(run))
    (run / "checkpoints/train.json").rename(run / "kept.json")
    train_rank(other, ALONE, CPU)  # its weights are best.pt now
    (run / "kept.json").rename(run / "checkpoints/train.json")
    assert read_card(run / "checkpoints/best.pt").model_id != first.model_id
    again = train(small_plan(3), recipe(), **places(run))
    assert again.model_id == first.model_id


def test_a_finished_training_does_not_need_the_weights_it_began_with(run, in_this_process):
    path = write_model(run / "other", small_plan(3), seed=1)
    settings = recipe(start_from=path, max_steps=2, validations=1)
    card = train(small_plan(3), settings, **places(run))
    path.unlink()
    path.with_suffix(".json").unlink()
    assert train(small_plan(3), settings, **places(run)) == card
    own = recipe(start_from=run / "checkpoints/best.pt")
    with pytest.raises(TrainingError, match="this run's own model: leave it out, and raise"):
        train(small_plan(3), own, **places(run))
