"""Killed with some settings and gone on with others: never a mask of two minds, never stuck."""

import pytest

from pipeline.errors import ModelError
from pipeline.io.companion_store import Companion, ProbabilityStore
from pipeline.io.mask_store import MaskStore, MaskWriter
from pipeline.io.store import partial_path
from pipeline.model_file import read_card
from pipeline.predict import stage
from pipeline.predict.tasks import laid_network, predict_shards
from tests.test_predict import cases, go, run  # noqa: F401  a fixture
from tests.trained import small_plan, write_model

ONE_PIECE, SMALLER = {"tile": (40, 192, 128)}, {"tile": (40, 64, 128)}


def dies(*_):
    """Stand in for what a kill prevents."""
    raise KeyboardInterrupt


@pytest.fixture
def killed(run, monkeypatch):  # noqa: F811
    """Give a function that predicts and is killed: after some pieces, or in a function."""

    def go_and_die(after=None, inside=None, **settings):
        ready = []

        def count(task):
            if len(ready) == after:
                raise KeyboardInterrupt
            ready.append(task)
            return predict_shards(task)

        with monkeypatch.context() as patched:
            if inside is not None:
                patched.setattr(inside, dies)
            else:
                patched.setattr(stage, "predict_shards", count)
            with pytest.raises(KeyboardInterrupt):
                go(run, **settings)

    return go_and_die


def masks(files):
    """Of the files of a tree, those that are not probabilities, whose last bit a tile may move."""
    return {path: bytes_ for path, bytes_ in files.items() if "probabilities/" not in path}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"after": 3, "objects": True}, {}),
        ({"after": 3}, {"objects": True}),
        ({"after": 0, "objects": True, **ONE_PIECE}, {"objects": True}),
        pytest.param(
            {"after": 3, "objects": True},
            {"objects": True, **ONE_PIECE},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"inside": "pipeline.io.mask_store.build_pyramid", "objects": True},
            {"objects": True, **SMALLER},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"inside": "pipeline.predict.work.MaskWriter.finish", "probabilities": True},
            {"probabilities": True, **SMALLER},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_was_killed_is_gone_on_with_as_if_it_had_not_been(run, killed, tree, first, then):  # noqa: F811
    killed(**first)
    assert not go(run, **then).refused
    assert not go(run, "fresh", **then).refused
    assert masks(tree(run / "masks")) == masks(tree(run / "fresh"))


def test_probabilities_of_an_earlier_mask_go_with_it_and_are_made_again(run, killed, tree):  # noqa: F811
    go(run, probabilities=True)
    go(run, mirror=True)
    assert not (run / "masks/probabilities" / cases(run)[0].final.name).exists()
    killed(after=2)
    assert not go(run, probabilities=True).refused
    go(run, "fresh", probabilities=True)
    assert tree(run / "masks") == tree(run / "fresh")
    for case in cases(run):
        store = ProbabilityStore(Companion.probabilities(()).path(case.final))
        assert store.attributes["key"] == MaskStore(case.final).key


def test_half_a_removed_draft_is_not_published(run, killed, tree, monkeypatch):  # noqa: F811
    def dies_in_the_middle(self):
        (partial_path(self.final) / "draft" / "zarr.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MaskWriter, "finish", dies_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            go(run, objects=True)
    go(run, objects=True)
    go(run, "fresh", objects=True)
    assert tree(run / "masks") == tree(run / "fresh")


def test_a_mask_that_cannot_be_published_is_its_cases_refusal(run, monkeypatch):  # noqa: F811
    first, finish = cases(run)[0].final, MaskWriter.finish

    def full(self):
        if self.final == first:
            raise OSError(28, "No space left on device")
        finish(self)

    with monkeypatch.context() as patched:
        patched.setattr(MaskWriter, "finish", full)
        done = go(run)
    assert [row.reason for row in done.refused] == ["the disk is full."]
    assert len(done.masks) == 2 and len(go(run).masks) == 3


def test_weights_that_change_under_a_prediction_are_refused(run):  # noqa: F811
    arranged = stage.arrange(
        cases(run),
        stage.PredictSettings(tile=(64, 64, 64)),
        stage.ExecuteSettings(on="serial"),
        run / "best.pt",
        read_card(run / "best.pt"),
    )
    write_model(run, small_plan(3), seed=1)
    with pytest.raises(ModelError, match="have changed since prediction began"):
        laid_network(arranged)
