"""Connected regions of masks that are larger than memory, found block by block, exactly.

Each block is searched alone (``block_parts``), what is found is linked (``merge``), judged
(``cleaned``, ``objects``) and written block by block (``apply``). How the volume is cut makes no
difference.
"""

from pipeline.components.blocks import BlockParts, block_parts
from pipeline.components.cleanup import cleaned, objects
from pipeline.components.components import BlockValues, Components
from pipeline.components.learning import Choice, Learned, LearningCase, learn
from pipeline.components.merge import merge
from pipeline.components.painting import apply
from pipeline.components.parts import grown_window
from pipeline.components.rules import ClassRule, Cleanup

__all__ = [
    "BlockParts",
    "BlockValues",
    "Choice",
    "ClassRule",
    "Cleanup",
    "Components",
    "Learned",
    "LearningCase",
    "apply",
    "block_parts",
    "cleaned",
    "grown_window",
    "learn",
    "merge",
    "objects",
]
