import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from pipeline.components import BlockValues, ClassRule, Cleanup, apply, cleaned, objects
from pipeline.errors import GridError
from pipeline.space import Window
from tests.components.masks import (
    NO_LABEL,
    blobs,
    diagonal,
    found,
    hollow,
    is_outside,
    painted,
    snake,
)

MASKS = {
    "noise": blobs((50, 61), smooth=0.8),
    "two classes": blobs((44, 51), classes=2, smooth=0.8),
    "noise with no data": blobs((48, 50), smooth=0.7, nodata=0.15),
    "noise in 3-D": blobs((14, 17, 16), classes=3, smooth=0.6),
    "two classes in 3-D": blobs((12, 15, 14), classes=2, smooth=0.5, nodata=0.1),
    "hollow balls": hollow((21, 20, 22)),
    "hollow discs": hollow((40, 41)),
    "snake": snake((20, 21)),
    "diagonals": diagonal((12, 12)),
    "thin": blobs((1, 30, 30)),
}
RULES = {
    "fill": {1: ClassRule(fill_holes=True), 2: ClassRule(fill_holes=True)},
    "largest": {1: ClassRule(largest_only=True), 3: ClassRule(largest_only=True)},
    "small": {1: ClassRule(smallest=9), 2: ClassRule(smallest=20.5)},
    "all": {
        1: ClassRule(largest_only=True, fill_holes=True),
        2: ClassRule(smallest=14, fill_holes=True),
        3: ClassRule(smallest=3, largest_only=True),
    },
}


def parts_of(region, everywhere):
    """Regions of a mask of one label, connected over faces alone or everywhere."""
    structure = ndimage.generate_binary_structure(region.ndim, region.ndim if everywhere else 1)
    numbers, count = ndimage.label(region, structure)
    return [numbers == i + 1 for i in range(count)]


def cleaned_whole(mask, rules, voxel_size):
    """What ``cleaned`` promises, done to the array."""
    filled = mask.copy()
    for hole in parts_of(mask == 0, everywhere=False):
        around = np.unique(mask[ndimage.binary_dilation(hole) & ~hole])
        fills = len(around) == 1 and rules.get(around[0], ClassRule()).fill_holes
        if fills and not is_outside(mask, hole):
            filled[hole] = around[0]
    after = filled.copy()
    for label, rule in rules.items():
        regions = parts_of(filled == label, everywhere=True)
        sizes = [np.count_nonzero(region) for region in regions]
        for region, size in zip(regions, sizes, strict=True):
            small = size * voxel_size < rule.smallest
            other = rule.largest_only and region is not regions[sizes.index(max(sizes))]
            if small or other:
                after[region] = 0
    return after


def objects_whole(mask):
    """Object numbers of a mask of classes, on the array."""
    regions = [
        region
        for label in np.unique(mask)
        if label not in (0, NO_LABEL)
        for region in parts_of(mask == label, everywhere=True)
    ]
    numbers = np.zeros(mask.shape, np.uint32)
    regions.sort(key=lambda region: np.flatnonzero(region)[0])
    for i, region in enumerate(regions, start=1):
        numbers[region] = i
    return numbers


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", MASKS)
def test_cleanup_by_blocks_is_cleanup_of_the_whole_array(name, rules):
    mask = MASKS[name]
    components = found(mask, (5, 6, 7)[-mask.ndim :])
    after = cleaned(components, Cleanup(rules=RULES[rules]), 0.9)
    result = painted(mask, components, after)
    expected = cleaned_whole(mask, RULES[rules], 0.9)
    assert result.dtype == mask.dtype
    assert np.array_equal(result, expected)
    numbers = painted(mask, components, objects(components, after), fill=0)
    assert numbers.dtype == np.uint32
    assert np.array_equal(numbers, objects_whole(expected))


def test_these_masks_have_holes_to_fill_and_things_to_remove():
    """The comparison above could otherwise pass with rules that do nothing."""
    changed = {
        (name, rules)
        for name, mask in MASKS.items()
        for rules in RULES
        if not np.array_equal(cleaned_whole(mask, RULES[rules], 0.9), mask)
    }
    balls = {"hollow balls", "hollow discs"}
    classes = {"two classes", "two classes in 3-D", "noise in 3-D"}
    assert {name for name, rules in changed if rules == "fill"} >= balls | classes
    assert {name for name, rules in changed if rules == "largest"} >= balls | classes | {"noise"}
    assert {name for name, rules in changed if rules == "small"} >= classes | {"noise", "thin"}


def picture(*rows):
    return np.array([[int(c) if c != "." else NO_LABEL for c in row] for row in rows], np.uint8)


def after_rules(mask, rules, voxel_size=1.0, background=0):
    components = found(mask, (2, 3), background)
    after = cleaned(components, Cleanup(rules=rules), voxel_size)
    numbers = painted(mask, components, objects(components, after), fill=0)
    return painted(mask, components, after).tolist(), numbers.tolist()


FILL = {1: ClassRule(fill_holes=True)}


def test_a_filled_hole_joins_what_it_touches_to_one_object():
    mask = picture("00000000", "01111100", "01000100", "01010100", "01000100", "01111100", "0" * 8)
    expected = picture("00000000", *["01111100"] * 5, "0" * 8)
    labels, numbers = after_rules(mask, FILL)
    assert labels == numbers == expected.tolist()


def test_diagonal_walls_enclose():
    mask = picture("00000", "00100", "01010", "00100", "00000")
    labels, _ = after_rules(mask, FILL)
    assert labels == picture("00000", "00100", "01110", "00100", "00000").tolist()


@pytest.mark.parametrize("inside", ["2", "."])
def test_a_hole_with_another_class_or_no_data_in_it_stays(inside):
    mask = picture("11111", "10001", f"10{inside}01", "10001", "11111")
    mask = np.pad(mask, 1)
    labels, _ = after_rules(mask, {**FILL, 2: ClassRule(smallest=5)})
    assert labels == np.where(mask == 2, 0, mask).tolist()


def test_a_hole_open_to_no_data_beside_it_stays():
    mask = np.pad(picture("1111", "100.", "1111"), 1)
    assert after_rules(mask, FILL)[0] == mask.tolist()


def test_a_filled_object_is_judged_by_its_filled_size_and_goes_with_its_holes():
    mask = np.pad(picture("111", "101", "111"), 1)
    kept, gone = ({1: ClassRule(fill_holes=True, smallest=size)} for size in (4.5, 4.6))
    assert after_rules(mask, kept, 0.5)[0] == np.pad(np.ones((3, 3), int), 1).tolist()
    assert after_rules(mask, gone, 0.5)[0] == np.zeros((5, 5), int).tolist()


def test_of_equal_objects_the_first_is_the_largest():
    mask = picture("0010", "1010", "1000")
    labels, _ = after_rules(mask, {1: ClassRule(largest_only=True)})
    assert labels == picture("0010", "0010", "0000").tolist()


def test_nothing_changes_without_a_background_class():
    mask = picture("11111", "10001", "10201", "10001", "11111")
    rules = {k: ClassRule(largest_only=True, fill_holes=True, smallest=99) for k in (0, 1, 2)}
    labels, numbers = after_rules(mask, rules, background=None)
    assert labels == mask.tolist()
    assert np.array_equal(numbers, np.array([1, 2, 3])[[1, 0, 2]][mask])


def test_a_rule_for_the_background_does_nothing():
    mask = picture("010", "010", "010")
    rule = ClassRule(largest_only=True, smallest=99)
    assert after_rules(mask, {0: rule})[0] == mask.tolist()


def test_rules_say_what_they_do():
    rule = ClassRule(largest_only=True, smallest=12.5, fill_holes=True)
    rules = Cleanup(rules={2: rule, 1: ClassRule()})
    assert rules.in_words(["air", "lung", "nodule"], "mm³") == (
        "The mask is cleaned up: nodule: holes filled, components below 12.5 mm³ removed, "
        "only the largest component kept."
    )
    idle = Cleanup(rules={1: ClassRule()})
    assert (rules.active, idle.active, Cleanup().active) == (True, False, False)
    assert idle.in_words(["air", "lung"], "m²") == "The mask is left as is."


@pytest.mark.parametrize("wrong", [{"smallest": -1}, {"smallest": float("nan")}, {"holes": True}])
def test_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Cleanup.model_validate({"rules": {1: wrong}})


def test_rules_come_back_from_json():
    rules = Cleanup(rules=RULES["all"])
    assert Cleanup.model_validate_json(rules.model_dump_json()) == rules


def test_values_of_other_blocks_and_masks_are_refused():
    mask = MASKS["noise"]
    components = found(mask, (25, 30))
    numbers = np.arange(len(components.label))
    with pytest.raises(GridError, match="none of the 6 blocks in which the components"):
        components.values(Window((0, 0), (25, 25)), numbers)
    block = components.values(Window((0, 0), (25, 30)), numbers)
    with pytest.raises(GridError, match=r"read its grown_window\(\), \(26, 31\)"):
        apply(mask[:25, :30], block, no_label=NO_LABEL)
    with pytest.raises(GridError, match="the mask has changed since"):
        apply(mask[20:46, 30:61], block, no_label=NO_LABEL)
    with pytest.raises(GridError, match="the mask has changed since"):
        apply(np.ones((26, 31), np.uint8), block, no_label=NO_LABEL)


def test_parts_of_one_value_are_not_searched_for_again(monkeypatch):
    monkeypatch.setattr("pipeline.components.painting.label_parts", None)
    mask = picture("0120", "1021")
    window = Window((0, 0), (2, 4))
    block = BlockValues(window, (2, 4), 0, np.array([0, 0, 1, 1, 2]), np.array([5, 5, 6, 6, 7]))
    assert apply(mask, block, no_label=NO_LABEL).tolist() == [[5, 6, 7, 5], [6, 5, 7, 6]]
