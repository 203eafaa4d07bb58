"""Logits come back on the native grid as torch would bring them, in windows and on any device."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate as torch_interpolate

from pipeline import native_logits
from pipeline.errors import GridError
from pipeline.native_logits import interpolate_logits
from pipeline.space import Resampling, Window, voxel_grid


def resampling(native, planned, orders=None):
    spacing = tuple(n / m for n, m in zip(native, planned, strict=True))
    made = Resampling.to_spacing(voxel_grid(native), spacing, orders)
    assert made.planned.shape == planned
    return made


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


CASES = [((20, 14, 9), (13, 14, 17)), ((6, 7, 1), (3, 20, 4)), ((31, 18), (20, 40))]


@pytest.mark.parametrize(("native", "planned"), CASES)
def test_logits_are_interpolated_as_torch_does(native, planned):
    logits = noise(4, *planned)
    mode = "bilinear" if len(native) == 2 else "trilinear"
    oracle = torch_interpolate(logits.double()[None], native, mode=mode, align_corners=False)[0]
    made = resampling(native, planned, (3,) * len(native))
    logits = logits[(slice(None), *made.planned_window(Window.whole(native)).slices)]
    result = interpolate_logits(logits, made, Window.whole(native))
    assert result.dtype == torch.float32
    # Float32 sums of eight terms.
    torch.testing.assert_close(result.double(), oracle, rtol=1e-5, atol=1e-6)


def test_logits_of_equal_grids_are_as_they_came():
    logits = noise(2, 5, 6, 7)
    made = resampling((5, 6, 7), (5, 6, 7))
    assert torch.equal(interpolate_logits(logits, made, Window.whole((5, 6, 7))), logits)
    window = Window((1, 2, 3), (2, 3, 4))
    assert made.planned_window(window) == window


def test_slices_far_apart_keep_their_own_logits():
    made = resampling((4, 8, 8), (2, 8, 8), (0, 3, 3))
    logits = noise(2, 2, 8, 8)
    result = interpolate_logits(logits, made, Window.whole((4, 8, 8)))
    assert torch.equal(result, logits.repeat_interleave(2, dim=1))


def test_a_border_between_classes_lies_between_the_planned_voxels():
    # Native voxel 4 is nearest to planned voxel 2, which is of class 1, but it lies before the
    # place where the logits cross.
    made = resampling((1, 8), (1, 4))
    logit = torch.tensor([[[-3.0, -3.0, 0.5, 1.0]]])
    logits = torch.cat([torch.zeros_like(logit), logit])
    labels = interpolate_logits(logits, made, Window.whole((1, 8))).argmax(dim=0)
    assert labels[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_logits_in_half_precision_and_any_layout_are_taken():
    made = resampling((9, 9, 9), (6, 6, 6))
    logits = noise(1, 3, 6, 6, 6).to(torch.bfloat16)
    last = logits.contiguous(memory_format=torch.channels_last_3d)[0]
    window = Window.whole((9, 9, 9))
    assert torch.equal(
        interpolate_logits(last, made, window), interpolate_logits(logits[0].float(), made, window)
    )


def test_logits_of_another_window_are_refused():
    made = resampling((8, 8), (4, 4))
    with pytest.raises(GridError, match=r"it is made of \(0, 0\)..\(3, 3\), which Resampling"):
        interpolate_logits(noise(2, 4, 4), made, Window((0, 0), (4, 4)))
    with pytest.raises(GridError, match=r"reaches outside \(8, 8\): clip it"):
        made.planned_window(Window((0, 0), (9, 4)))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_way_of_a_gpu_gives_the_same_bits(device, monkeypatch):
    made = resampling((20, 14, 9), (13, 21, 9))
    logits, window = noise(3, 13, 21, 9), Window.whole((20, 14, 9))
    expected = interpolate_logits(logits, made, window)
    monkeypatch.setattr(native_logits, "_along", native_logits._gathered)
    assert torch.equal(interpolate_logits(logits.to(device), made, window).cpu(), expected)
