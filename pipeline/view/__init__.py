"""Stores over HTTP on this machine alone, and the links by which viewers open them."""

from pipeline.view.layers import (
    Layer,
    companion_layer,
    image_layer,
    mask_layer,
    truth_layers,
)
from pipeline.view.links import neuroglancer_link, programs, vizarr_link
from pipeline.view.server import StoreServer

__all__ = [
    "Layer",
    "StoreServer",
    "companion_layer",
    "image_layer",
    "mask_layer",
    "neuroglancer_link",
    "programs",
    "truth_layers",
    "vizarr_link",
]
