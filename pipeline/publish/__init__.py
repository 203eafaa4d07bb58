"""Mask stores → versions a consumer may hold on to, and ``current``, which names the newest."""

from pipeline.publish.settings import PublishSettings
from pipeline.publish.stage import MaskToPublish, Publication, plan_publish, publish
from pipeline.publish.version import CURRENT, PublishedMask, Version, current_version

__all__ = [
    "CURRENT",
    "MaskToPublish",
    "Publication",
    "PublishSettings",
    "PublishedMask",
    "Version",
    "current_version",
    "plan_publish",
    "publish",
]
