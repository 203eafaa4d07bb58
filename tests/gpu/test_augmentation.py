"""Patches are the same wherever they are augmented."""

import pytest
import torch

from pipeline.training.settings import ElasticSettings
from pipeline.training.transforms import Augment
from tests.training.test_augmentation import drawn

pytestmark = pytest.mark.gpu

CLOSE = 2e-3
"""Intensities are standardised; devices round the places between voxels differently."""
ALIKE = 0.999
"""Share of the voxels: one that lies on the line between two classes may fall to either."""


@pytest.mark.parametrize(
    ("shape", "spacing", "bands"),
    [((32, 32), None, True), ((16, 24, 16), None, False), ((6, 32, 32), (5.0, 1.0, 1.0), False)],
)
@pytest.mark.parametrize("elastic", [None, ElasticSettings(std=2)])
def test_a_batch_is_the_same_on_the_gpu(shape, spacing, bands, elastic):
    augment = Augment(shape, 2.0, True, 255, elastic, spacing=spacing, bands=bands)
    patches = [drawn(tuple(n + 6 for n in shape), weighted=True, seed=n) for n in range(24)]
    seeds = range(len(patches))
    expected, found = (augment.batch(patches, seeds, device) for device in ("cpu", "cuda"))
    assert expected.keys() == found.keys() == {"image", "label", "weight"}
    assert all(values.device.type == "cuda" for values in found.values())
    label = found["label"].cpu() == expected["label"]
    assert label.float().mean() > ALIKE
    image = (found["image"].cpu() - expected["image"]).abs() < CLOSE
    assert image.float().mean() > ALIKE
    weight = torch.isclose(found["weight"].cpu(), expected["weight"])
    assert weight.float().mean() > ALIKE
