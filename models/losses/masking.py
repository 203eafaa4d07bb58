"""What every loss over classes does first: check, and put ignored voxels out of reach."""

import torch
from torch import Tensor

IGNORED = 255
"""The usual label of voxels without truth."""


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse labels that do not go with the logits.

    Args:
        logits: Network output, (B, K, *S).
        labels: Truth, (B, *S).

    Raises:
        ValueError: Shapes disagree, or labels are not integers.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(labels.shape) != expected:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, logits {tuple(logits.shape)} need "
            f"{expected}: give one class index per voxel, without a channel axis"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}: give class indices in an integer dtype")


def check_classes(labels: Tensor, valid: Tensor, classes: int) -> None:
    """Refuse labels that are neither a class nor ignored.

    Args:
        labels: Truth, (B, *S).
        valid: Where it is no ignored label, (B, *S).
        classes: Number of classes, K.

    Raises:
        IndexError: A label is out of bounds.
    """
    wrong = labels[valid & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise IndexError(
            f"label {int(wrong[0])} is out of bounds for {classes} classes: give 0 to "
            f"{classes - 1}, or the ignored label where there is no truth"
        )


def masked_logits(logits: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Give logits in float32 with zeros where there is no truth, and where there is some.

    Args:
        logits: Network output, (B, K, *S), any float dtype.
        labels: Truth, (B, *S), any integer dtype.
        ignore_index: Label of voxels that are left out.

    Returns:
        Logits (B, K, *S), whose gradient is zero at ignored voxels, and valid (B, *S).

    Raises:
        ValueError: Shapes disagree, or labels are not integers.
    """
    check_labels(logits, labels)
    valid = labels != ignore_index
    # Filling first, not weighing by zero last, keeps NaN out too: 0 * NaN is NaN.
    return logits.float().masked_fill(~valid.unsqueeze(1), 0), valid


def one_hot(labels: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Give the truth of each class, (B, K, *S), false everywhere at ignored voxels."""
    numbers = torch.arange(classes, device=labels.device)
    truth = labels.unsqueeze(1) == numbers.view(-1, *[1] * (labels.ndim - 1))
    return truth & valid.unsqueeze(1)


def first_scored(classes: int, background: bool) -> int:
    """Give the first class that counts in an overlap: 0, or 1 without the background.

    Raises:
        ValueError: None would count.
    """
    if classes == 1 and not background:
        raise ValueError(
            "logits have 1 class and background is left out, so Dice has no class: "
            "use background=True or a network with 2 classes"
        )
    return 0 if background else 1


def check_smooth(smooth: float) -> float:
    """Give ``smooth`` back.

    Raises:
        ValueError: It is not positive.
    """
    if not smooth > 0:
        raise ValueError(
            f"smooth is {smooth}: an absent class would give 0/0, use a small positive number"
        )
    return smooth
