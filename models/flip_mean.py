"""Test-time mirroring: the mean of what a network says of an image and of its mirror images."""

from collections.abc import Iterator
from itertools import combinations

from torch import Tensor

from models.averages import Average, average
from models.network import Network
from models.sizes import fitting_shape, margins, output_shape
from models.way_up import Box


class FlipMean(Network):
    """A network that is asked about an image flipped along every subset of its axes.

    Two to the power of the axes passes, one held at a time. Sizes are multiples of the total
    stride, so that a tile's flips lie on the same strides as the whole volume's, and tiles meet as
    exactly as the network's own.

    Args:
        network: What is asked.
        kind: What its output means; probabilities are averaged.

    Raises:
        ValueError: The output does not lie in the middle of the input.
    """

    def __init__(self, network: Network, kind: Average) -> None:
        super().__init__(network.settings)
        settings = network.settings
        least = fitting_shape(settings, (1,) * settings.ndim)
        output = output_shape(settings, least) or least
        if any((n - m) % 2 for n, m in zip(least, output, strict=True)):
            raise ValueError(
                f"the network loses more voxels at one end than at the other ({margins(settings)} "
                "at the first): its mirror images do not meet"
            )
        self.network = network
        self.kind: Average = kind

    def compute(self, x: Tensor) -> Tensor:
        """Give the mean over all flips, as logits, (B, K, *S) float32."""
        return average((self._one(x, axes) for axes in self._flips()), self.kind)

    def inside(self, x: Tensor, box: Box) -> Tensor:
        """Give a box of the mean."""
        return average((self._one(x, axes, box) for axes in self._flips()), self.kind)

    def _flips(self) -> Iterator[tuple[int, ...]]:
        axes = range(2, 2 + self.settings.ndim)
        for count in range(len(axes) + 1):
            yield from combinations(axes, count)

    def _one(self, x: Tensor, axes: tuple[int, ...], box: Box | None = None) -> Tensor:
        flipped = x.flip(axes) if axes else x
        if box is None:
            logits = self.network(flipped)
        else:
            size = output_shape(self.settings, x.shape[2:])
            assert size is not None
            turned = tuple(
                (n - b, n - a) if axis in axes else (a, b)
                for axis, ((a, b), n) in enumerate(zip(box, size, strict=True), start=2)
            )
            logits = self.network.inside(flipped, turned)
        assert isinstance(logits, Tensor)
        return logits.flip(axes) if axes else logits
