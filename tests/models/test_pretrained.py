"""Weights of a local file reach a backbone, whatever its channels and axes."""

import re

import pytest
import torch

from models import build_model, load_pretrained, preset
from models.pretrained import load_encoder

DENSE = re.compile(r"\.layers\.")
STACKED = re.compile(r"^_blocks\.\d+\.")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def published(encoder, randomise):
    """Give a backbone with three channels, and its state dict under published names."""
    model = randomise(build_model(preset(f"{encoder}-unet", 2, 3, 2))).eval()
    state = {
        STACKED.sub("_blocks.", DENSE.sub(".", key)): value
        for key, value in model.encoder.state_dict().items()
    }
    return model, state | {"fc.weight": torch.zeros(9, 4), "fc.bias": torch.zeros(9)}


@pytest.mark.parametrize(
    "encoder", ["resnet18", "resnext50_32x4d", "densenet121", "efficientnet-b0"]
)
def test_weights_under_published_names_are_taken_over(encoder, randomise, tmp_path):
    model, state = published(encoder, randomise)
    torch.save(state, tmp_path / "weights.pt")
    settings = preset(f"{encoder}-unet", 2, 3, 2, encoder_weights=str(tmp_path / "weights.pt"))
    other = build_model(settings).eval()
    load_pretrained(other)
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for ours, theirs in zip(other.encoder(x), model.encoder(x), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_an_image_alike_in_all_channels_gives_the_response_of_training(
    channels, randomise, tmp_path
):
    model, state = published("resnet18", randomise)
    torch.save(state, tmp_path / "weights.pt")
    other = build_model(preset("resnet18-unet", 2, channels, 2)).eval()
    load_encoder(other, tmp_path / "weights.pt")
    grey = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        ours = other.double().encoder(grey.expand(-1, channels, -1, -1))[-1]
        theirs = model.double().encoder(grey.expand(-1, 3, -1, -1))[-1]
    # The kernels themselves were summed in float32.
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_a_volume_alike_in_all_slices_gives_the_response_of_one(randomise, tmp_path):
    model, state = published("resnet18", randomise)
    torch.save(state, tmp_path / "weights.pt")
    other = build_model(preset("resnet18-unet", 3, 3, 2)).eval()
    load_encoder(other, tmp_path / "weights.pt")
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        ours = other.encoder(x.unsqueeze(2).expand(-1, -1, 32, -1, -1))[0]
        theirs = model.encoder(x)[0]
    middle = ours[:, :, 8]  # the first and last slices see the padding
    torch.testing.assert_close(middle, theirs, rtol=1e-4, atol=1e-4)  # sums in another order


def test_networks_without_weights_to_load_are_left_alone():
    model = build_model(preset("unet-small", 2, 1, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_pretrained(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def refused(tmp_path, value, match, encoder="resnet18"):
    torch.save(value, tmp_path / "weights.pt")
    model = build_model(preset(f"{encoder}-unet", 2, 3, 2))
    with pytest.raises(ValueError, match=match):
        load_encoder(model, tmp_path / "weights.pt")


def test_files_that_are_no_weights_of_this_backbone_are_refused(randomise, tmp_path):
    _, state = published("resnet18", randomise)
    refused(tmp_path, {"state_dict": state}, "holds more than named tensors: save model.state_dict")
    refused(tmp_path, re.compile("a"), "is no state dict that loads with weights_only=True")
    refused(tmp_path, state, "is of another backbone: it lacks .* use weights of", "resnet34")
    refused(
        tmp_path,
        state | {"conv1.weight": torch.zeros(8, 3, 7, 7)},
        r"conv1.weight has shape \(8, 3, 7, 7\), the backbone needs \(64, 3, 7, 7\): use weights",
    )
    (tmp_path / "weights.pt").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no state dict that loads"):
        load_encoder(build_model(preset("resnet18-unet", 2, 3, 2)), tmp_path / "weights.pt")


def test_absent_weights_are_not_downloaded(tmp_path):
    settings = preset("resnet18-unet", 2, 3, 2, encoder_weights=str(tmp_path / "none.pt"))
    model = build_model(settings)
    with pytest.raises(
        ValueError, match=r"no encoder weights at .*none.pt: weights are never down"
    ):
        load_pretrained(model)
    with pytest.raises(ValueError, match="UNet has no backbone: give the weights to an encoder_u"):
        load_encoder(build_model(preset("unet-small", 2, 1, 2)), tmp_path / "none.pt")
