"""Masks whose components are judged, and objects numbered, after all of them is labelled."""

import numpy as np
import pytest
from ome_zarr_models.v05.image_label import ImageLabel
from scipy import ndimage

from pipeline.execute import ExecuteSettings
from pipeline.io.companion_store import Companion, ObjectStore, ProbabilityStore
from pipeline.io.files import read_json, write_json
from pipeline.io.mask_store import MaskStore
from pipeline.predict import refine
from pipeline.space import Window
from tests.test_predict import SHAPE, cases, go, run  # noqa: F401  a fixture

WHOLE = Window.whole(SHAPE)
RULES = {"1": {"largest_only": True}, "2": {"smallest": 40.0}}
EVERYWHERE = np.ones((3, 3, 3))


@pytest.fixture
def ruled(run):  # noqa: F811
    """The run, whose model has rules for both classes."""
    card = read_json(run / "best.json")
    write_json(run / "best.json", card | {"cleanup": {"rules": RULES}})
    return run


def cleaned_at_once(labels, voxel_size):
    """The rules, applied by scipy to a whole mask."""
    cleaned = labels.copy()
    parts, count = ndimage.label(labels == 1, EVERYWHERE)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    cleaned[(parts > 0) & (parts != 1 + sizes.argmax())] = 0
    parts, count = ndimage.label(labels == 2, EVERYWHERE)
    small = np.bincount(parts.ravel(), minlength=count + 1) * voxel_size < 40
    cleaned[(parts > 0) & small[parts]] = 0
    return cleaned


def numbered_at_once(labels):
    """Objects of both classes, numbered in the order of their first voxels."""
    numbers, total = np.zeros(labels.shape, np.int64), 0
    for label in (1, 2):
        parts, count = ndimage.label(labels == label, EVERYWHERE)
        numbers[parts > 0] = parts[parts > 0] + total
        total += count
    kept, first = np.unique(numbers, return_index=True)
    order = kept[np.argsort(first)]
    place = np.zeros(total + 1, np.int64)
    place[order[order > 0]] = np.arange(1, len(order[order > 0]) + 1)
    return place[numbers]


def test_components_of_a_mask_in_pieces_are_those_of_the_whole(ruled):
    plain = go(ruled, "plain", cleanup=False)
    done = go(ruled, objects=True)
    for before, mask, case in zip(plain.masks, done.masks, cases(ruled), strict=True):
        labels = MaskStore(before).read(WHOLE)
        store = MaskStore(mask)
        expected = cleaned_at_once(labels, np.prod(store.grid.spacing))
        assert not np.array_equal(expected, labels)
        assert np.array_equal(store.read(WHOLE), expected)
        objects = ObjectStore(Companion.objects().path(case.final))
        assert np.array_equal(objects.read(WHOLE), numbered_at_once(expected))
        ImageLabel.from_zarr(objects.root)
        assert "draft" not in store.root
        assert store.attributes["cleanup"]["1"]["largest_only"]


def labels_of(files):
    """A tree without its probabilities, which are floats."""
    return {name: data for name, data in files.items() if not name.startswith("probabilities/")}


def test_pieces_workers_and_memory_make_no_other_mask(ruled, tree, monkeypatch):
    settings = {"objects": True, "probabilities": True}
    go(ruled, **settings)
    expected = tree(ruled / "masks")
    go(ruled, "whole", tile=(40, 192, 128), **settings)  # one piece, refined in memory
    assert labels_of(tree(ruled / "whole")) == labels_of(expected)
    for path in sorted((ruled / "masks" / "probabilities").glob("*.zarr")):
        blocks, whole = (
            ProbabilityStore(ruled / made / "probabilities" / path.name).read(WHOLE)
            for made in ("masks", "whole")
        )
        # A processor may sum another tile's voxels in another order: one step of 255, no more.
        np.testing.assert_allclose(whole, blocks, rtol=0, atol=1.01 / 255)
    monkeypatch.setattr("pipeline.predict.tasks.TASK_VOXELS", 100_000)
    go(ruled, "two", ExecuteSettings(on="local", workers=2), **settings)
    assert tree(ruled / "two") == expected


def test_a_kill_while_painting_goes_on_from_the_draft(ruled, tree, monkeypatch):
    go(ruled, "whole", objects=True)
    painted = []

    def killed_at_third(final, window, done):
        if len(painted) == 2:
            # Half of the piece is written when the process dies.
            refine.MaskWriter(final).write(window, done.labels)
            raise KeyboardInterrupt
        painted.append(window)
        write(final, window, done)

    write = refine.write_refined
    monkeypatch.setattr(refine, "write_refined", killed_at_third)
    with pytest.raises(KeyboardInterrupt):
        go(ruled, "masks", objects=True)
    monkeypatch.undo()
    go(ruled, "masks", objects=True)
    assert tree(ruled / "masks") == tree(ruled / "whole")


def test_other_rules_make_another_mask_and_none_the_plain_one(ruled, tree):
    go(ruled, "plain", cleanup=False)
    go(ruled)
    assert tree(ruled / "masks") != tree(ruled / "plain")
    go(ruled, cleanup=False)
    assert tree(ruled / "masks") == tree(ruled / "plain")


def test_a_piece_that_cannot_be_painted_is_the_cases_refusal(ruled, monkeypatch):
    first = cases(ruled)[0].final

    def full(final, window, done):
        if final == first:
            raise OSError(28, "No space left on device")
        write(final, window, done)

    write = refine.write_refined
    monkeypatch.setattr(refine, "write_refined", full)
    done = go(ruled)
    assert len(done.masks) == 2
    assert [r.reason for r in done.refused] == ["the disk is full."]
    monkeypatch.undo()
    assert len(go(ruled).masks) == 3
