"""Patches → checkpoints: transforms, dataset, processes, checkpoint, loop."""

from pipeline.training.settings import TrainSettings
from pipeline.training.train import train

__all__ = ["TrainSettings", "train"]
