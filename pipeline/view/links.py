"""How viewers are told to open served layers: links for browsers, commands for programs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from pipeline.view.layers import Layer, dimensions_of

NEUROGLANCER = "https://neuroglancer-demo.appspot.com/"
VIZARR = "https://hms-dbmi.github.io/vizarr/"
PANEL_PIXELS = 400
"""Length on the screen that the longest side of a volume has at first."""
Address = Callable[[str], str]
"""Gives the URL of what is served under a path."""


def neuroglancer_state(layers: Sequence[Layer], address: Address) -> dict[str, Any]:
    """Neuroglancer's state: the layers over each other, at the size of the voxels.

    Args:
        layers: The lowest first.
        address: Gives the URL of a layer's path.
    """
    grid = layers[0].grid
    sizes = dimensions_of(grid)
    voxel = min(size for size, _ in sizes.values())
    longest = max(n * size / voxel for n, (size, _) in zip(grid.shape, sizes.values(), strict=True))
    return {
        # The first axis runs to the right of the screen, the second down it.
        "dimensions": dict(reversed(sizes.items())),
        "position": [n / 2 for n in reversed(grid.shape)],
        "crossSectionScale": longest / PANEL_PIXELS,
        "projectionScale": 2 * longest,
        "layers": [layer.neuroglancer(address(layer.path)) for layer in layers],
        "layout": "4panel" if len(grid.shape) == 3 else "xy",
    }


def neuroglancer_link(layers: Sequence[Layer], address: Address, viewer: str = NEUROGLANCER) -> str:
    """A link that opens all layers in Neuroglancer.

    The state stands behind the ``#``, which a browser sends to nobody.
    """
    state = json.dumps(neuroglancer_state(layers, address), separators=(",", ":"))
    return f"{viewer}#!{quote(state, safe='')}"


def vizarr_link(layers: Sequence[Layer], address: Address) -> str:
    """A link that opens the layers' stores in Vizarr, which draws labels as intensities."""
    return f"{VIZARR}?{urlencode([('source', address(store)) for store in _stores(layers)])}"


def _stores(layers: Sequence[Layer]) -> list[str]:
    """The stores of layers: what is inside one, as labels of an image, a viewer finds itself."""
    return list(dict.fromkeys(layer.path.partition("/")[0] for layer in layers))


def programs(layers: Sequence[Layer], address: Address, store: str) -> list[tuple[str, str]]:
    """Commands that open the layers in programs on this machine.

    Args:
        layers: The lowest first.
        address: Gives the URL of a store.
        store: The store's own path, for programs that want a file.

    Returns:
        Name of the program, and its command.
    """
    quoted = shlex.quote(store)
    urls = " ".join(map(address, _stores(layers)))
    found = [("napari", f"napari --plugin napari-ome-zarr {urls}")]
    mask = next((layer for layer in layers if layer.name == "mask"), None)
    if mask is None:
        return found
    if layers[0].grid.crs is not None:
        found.append(("QGIS", f"segflow export {quoted} mask.tif --to cog && qgis mask.tif"))
    elif len(mask.grid.shape) == 3:
        export = f"segflow export {quoted} mask.nii.gz --to nifti"
        found.append(("ITK-SNAP", f"{export} && itksnap -g IMAGE -s mask.nii.gz"))
    return found
