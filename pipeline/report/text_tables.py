"""Tables and text for a terminal, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool) -> str:
    """A table whose columns line up; with ``numbers``, all but the first to the right."""
    lines = [list(head), *([plain(cell) for cell in row] for row in rows)]
    columns = [
        _column(cells, right=numbers and i > 0) for i, cells in enumerate(zip(*lines, strict=True))
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _column(cells: Sequence[str], *, right: bool) -> list[str]:
    """Cells of one width, a rule under the first."""
    width = max(map(len, cells))
    head, *body = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    rule = "-" * (width - 1) + (":" if right else "-")
    return [head, rule, *body]


def plain(text: str) -> str:
    """Text that neither Markdown, HTML nor a terminal takes for a command."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\|<`])", r"\\\1", shown)
