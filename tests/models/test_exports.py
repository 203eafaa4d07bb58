import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from models import (
    ExportError,
    Mirrored,
    build_model,
    fitting_shape,
    margins,
    output_shape,
    to_torchscript,
    torchscript_bytes,
)
from models import exports as code
from models.unet import UNet
from tests.models.conftest import randomised
from tests.models.networks import SMALL, rows, small

ONE_SIZE = ["swin"]
"""Its windows of attention are laid by the size of the image."""
ROUNDING = 1e-5
QUICK_3D = ("unet", "unet residual", "attention", "dense", "segresnet", "dynunet", "unet instance")
SLOW_2D = ("resnext", "densenet", "resnet instance", "unet++ deep")
EVERY = [
    pytest.param(
        *row.values,
        marks=[*row.marks]
        + [pytest.mark.slow]
        * (row.values[0] in SLOW_2D if row.values[1] == 2 else row.values[0] not in QUICK_3D),
    )
    for row in rows(SMALL, 2, 3)
]


def network(name, ndim=2, **changes):
    torch.manual_seed(0)
    return randomised(build_model(small(name, ndim, **changes))).eval()


def loaded(content):
    return torch.jit.load(io.BytesIO(content))


def assert_same(one, other, x):
    with torch.no_grad():
        a, b = one(x), other(x)
    assert a.shape == b.shape
    assert (a - b).abs().max() <= ROUNDING * a.abs().max()


@pytest.mark.parametrize("name, ndim", EVERY)
def test_every_network_computes_the_same_as_torchscript(name, ndim):
    own = network(name, ndim)
    shape = fitting_shape(own.settings, (20,) * ndim)
    made = to_torchscript(own, shape)
    assert made.any_size == (name not in ONE_SIZE)
    other = loaded(torchscript_bytes(made.form))
    # A batch and a size that the export did not look at.
    larger = fitting_shape(own.settings, [2 * n + 1 + axis for axis, n in enumerate(shape)])
    size = larger if made.any_size and ndim == 2 else shape
    assert_same(own, other, torch.randn(2, 2, *size))


def test_weights_keep_their_names_so_that_others_can_be_put_in():
    own, second = network("unet"), network("unet")
    with torch.no_grad():
        for weight in second.parameters():
            weight.mul_(1.1)
    other = loaded(torchscript_bytes(to_torchscript(own, (16, 16)).form))
    assert list(other.state_dict()) == list(own.state_dict())
    other.load_state_dict(second.state_dict())
    assert_same(second, other, torch.randn(1, 2, 16, 24))


def test_texts_travel_inside_and_paths_of_this_machine_do_not():
    made = to_torchscript(network("unet"), (16, 16))
    content = torchscript_bytes(made.form, {"metadata.json": "{}"})
    found = {"metadata.json": ""}
    torch.jit.load(io.BytesIO(content), _extra_files=found)
    assert found == {"metadata.json": b"{}"}
    here = str(Path(code.__file__).parent.parent).encode()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert not [n for n in archive.namelist() if here in archive.read(n)]


def test_two_processes_export_the_same_bytes():
    script = (
        "import hashlib; from models import torchscript_bytes, to_torchscript;"
        "from tests.models.test_exports import network;"
        "made = to_torchscript(network('unet'), (16, 16));"
        "print(hashlib.sha256(torchscript_bytes(made.form)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


class Stray(UNet):
    """Computes with numbers that a trace holds fast."""

    def compute(self, x):
        return super().compute(x) + float(x.mean())


class Random(UNet):
    def compute(self, x):
        return super().compute(x) + torch.rand(())


@pytest.mark.parametrize("kind", [Stray, Random])
def test_what_computes_something_else_is_refused_with_both_reasons(kind):
    with pytest.raises(
        ExportError, match=rf"a {kind.__name__} has no .*: for any size, its logits"
    ):
        to_torchscript(kind(small("unet", 2)).eval(), (16, 16))


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ExportError, match=r"call eval\(\) first"):
        to_torchscript(build_model(small("unet", 2)), (16, 16))


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ExportError, match=r"pad or crop to \(16, 16\) or \(20, 16\)"):
        to_torchscript(network("unet"), (17, 16))


@pytest.mark.parametrize("size", [(7, 40), (33, 5), (64, 51)])
def test_a_mirrored_network_sees_what_numpy_reflects(size):
    own = network("unet", padding="valid")
    script = torch.jit.script(Mirrored(to_torchscript(own, (63, 63)).form, own.settings))
    x = torch.randn(1, 2, *size)
    shape = fitting_shape(own.settings, (1, 1))
    while any(m < n for m, n in zip(output_shape(own.settings, shape), size, strict=True)):
        outer = [
            n + (m < k)
            for n, m, k in zip(shape, output_shape(own.settings, shape), size, strict=True)
        ]
        shape = fitting_shape(own.settings, outer)
    margin = margins(own.settings)
    pads = [(m, k - n - m) for m, k, n in zip(margin, shape, size, strict=True)]
    shown = torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), *pads], mode="reflect"))
    with torch.no_grad():
        expected = own(shown)[..., : size[0], : size[1]]
        got = script(x)
    assert torch.allclose(expected, got, atol=1e-5)
