"""The catalogue says of each network what it is."""

import pytest

from models.catalogue import catalogue, entry
from models.presets import PRESETS
from tests.models.networks import EINOPS


def test_an_entry_describes_the_network_as_measured():
    small = entry("unet-small", 3)
    assert (small.kind, small.ndim, small.parameters) == ("unet", 3, 5_644_930)
    assert small.total_stride == (16, 16, 16)
    assert small.tiles_exactly
    assert "2018" in small.source
    assert small.receptive_field is not None
    # 4 convolutions of 3 voxels at strides 1, 2, 4 and 8, 2 at 16; pools; the voxel itself.
    convolutions = sum(2 * n * stride for n, stride in ((4, 1), (4, 2), (4, 4), (4, 8), (2, 16)))
    assert small.receptive_field[0] == pytest.approx(convolutions, abs=32)


@EINOPS
@pytest.mark.slow
def test_every_network_is_listed_in_two_and_three_dimensions():
    entries = list(catalogue())
    assert [(e.name, e.ndim) for e in entries] == [(n, d) for n in PRESETS for d in (2, 3)]
    seamed = {e.name for e in entries if not e.tiles_exactly}
    others = {"unet-bilinear", "nnunet", "segresnet", "dynunet", "swin-unetr"}
    assert seamed == others | {n for n in PRESETS if n.startswith("efficientnet")}
