"""Trained weights of a backbone, from a local file."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

# MONAI's names, and those of old files, beside the published ones.
NAMES = (
    (re.compile(r"(denselayer\d+)\.(?:layers\.)?(norm|conv)\.?([12])\."), r"\1.\2\3."),
    (re.compile(r"^_blocks\.\d+\.(\d+)\."), r"_blocks.\1."),
)
CLASSIFIERS = ("fc.", "classifier.", "_fc.", "_conv_head.", "_bn1.")


def load_pretrained(model: nn.Module) -> None:
    """Give a network the trained weights that its settings name, if they name any.

    For a network about to be trained; one that has been needs no other weights than its own.

    Raises:
        ValueError: As :func:`load_encoder`.
    """
    if path := getattr(getattr(model, "settings", None), "encoder_weights", None):
        load_encoder(model, path)


def load_encoder(model: nn.Module, path: str | Path) -> None:
    """Give a network's backbone the weights of a local file.

    The file holds a state dict as torchvision names its tensors (ResNet, ResNeXt, DenseNet), or
    as EfficientNet-PyTorch does. Its classifier is left out; all else must be there. A file of
    two-dimensional kernels serves three dimensions, and one of three channels any number:
    :func:`fitted` says how.

    Args:
        model: A network with an attribute ``encoder``, as :class:`models.encoder_unet.EncoderUNet`.
        path: The file, read with ``weights_only=True``: nothing in it can run.

    Raises:
        ValueError: The network has no backbone, there is no such file, it is no state dict, or it
            is of another backbone.
    """
    encoder: nn.Module | None = getattr(model, "encoder", None)
    if encoder is None:
        raise ValueError(
            f"{type(model).__name__} has no backbone: give the weights to an encoder_unet"
        )
    encoder.load_state_dict(fitted(read_state(path), encoder.state_dict(), str(path)))


def read_state(path: str | Path) -> Mapping[str, Tensor]:
    """Read a state dict from a local file.

    Raises:
        ValueError: There is no such file, or it holds anything but named tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"there are no encoder weights at {path}: weights are never downloaded, put the file "
            f"there or leave encoder_weights out"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} is no state dict that loads with weights_only=True: save model.state_dict() "
            f"with torch.save"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds more than named tensors: save model.state_dict() alone")
    return state


def fitted(state: Mapping[str, Tensor], like: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give trained tensors the names and shapes of a backbone.

    The first convolution of n channels other than the trained ones gets the sum of the trained
    kernels, divided by n, for each of them: an image that is the same in all its channels gives
    the response it gave in training, so that batch norm's statistics still hold. For one channel
    that is the plain sum, a grey image being three equal channels.

    A two-dimensional kernel is repeated along Z and divided by its depth (Carreira and Zisserman,
    Quo Vadis, CVPR 2017): a volume that is the same in all its slices gives the response of one, a
    few slices from its ends on.

    Args:
        state: Trained tensors.
        like: The backbone's own.
        name: What to call them in messages.

    Raises:
        ValueError: Tensors are missing, left over, or of other shapes.
    """
    trained = {_published(key): value for key, value in state.items()}
    own = {_published(key): key for key in like}
    # Counters of steps are missing in old files and play no part.
    wanted = {key for key in own if not key.endswith("num_batches_tracked")}
    left = {k for k in trained.keys() - own.keys() if not k.startswith(CLASSIFIERS)}
    if (missing := wanted - trained.keys()) or left:
        raise ValueError(
            f"{name} is of another backbone: it lacks {_some(missing)} and has {_some(left)} "
            f"beside; use weights of torchvision's names (EfficientNet: EfficientNet-PyTorch's)"
        )
    return {
        key: _shaped(trained.get(published, like[key]), like[key], f"{name}: {published}")
        for published, key in own.items()
    }


def _published(key: str) -> str:
    for pattern, name in NAMES:
        key = pattern.sub(name, key)
    return key


def _shaped(trained: Tensor, own: Tensor, name: str) -> Tensor:
    fitting = trained
    if trained.ndim == 4 and own.ndim == 5:
        depth = own.shape[2]
        fitting = fitting.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    if fitting.ndim > 2 and fitting.shape[1] != own.shape[1]:
        channels = own.shape[1]
        fitting = fitting.sum(1, keepdim=True).expand(-1, channels, *fitting.shape[2:]) / channels
    if fitting.shape != own.shape:
        raise ValueError(
            f"{name} has shape {tuple(trained.shape)}, the backbone needs {tuple(own.shape)}: "
            f"use weights of the same backbone"
        )
    return fitting.to(own.dtype).clone()


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return f"{len(names)} tensors ({', '.join(first)})" if first else "nothing"
