"""From a folder to a run.yaml: what the dataset is, and what its mask values mean."""

from pipeline.init.recognise import Recognised, init

__all__ = ["Recognised", "init"]
