"""Settings as YAML that explains itself: every value written out under its field's docstring."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

COLUMNS = 100


def commented_yaml(
    settings: BaseModel,
    header: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Write settings so that a person can read and change them.

    Args:
        settings: Nested settings models; their fields' docstrings become comments.
        header: Lines of comment at the top.
        notes: More lines of comment, by full key (``data.classes``).

    Returns:
        YAML that loads to equal settings.
    """
    lines = [*_comment(header, 0), "", *_settings(settings, "", 0, notes or {})]
    return "\n".join(lines).lstrip("\n") + "\n"


def _settings(
    model: BaseModel, parent: str, indent: int, notes: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    values = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        value, key, pad = getattr(model, name), f"{parent}{name}", " " * indent
        label = _inline(name)  # the key `on` would be read as true, were it not quoted
        if isinstance(value, BaseModel):
            yield ""
        described = " ".join((field.description or "").replace("``", "`").split())
        yield from _comment([described, *notes.get(key, ())], indent)
        if isinstance(value, BaseModel):
            yield f"{pad}{label}:"
            yield from _settings(value, f"{key}.", indent + 2, notes)
        elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
            yield f"{pad}{label}:"
            yield from (f"{pad}  - {_inline(item)}" for item in values[name])
        else:
            yield f"{pad}{label}: {_inline(values[name])}"


def _comment(lines: Sequence[str], indent: int) -> Iterator[str]:
    mark = " " * indent + "# "
    for line in filter(None, lines):
        yield from textwrap.wrap(line, COLUMNS, initial_indent=mark, subsequent_indent=mark)


def _inline(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**31
    )
    return text.removesuffix("...\n").rstrip("\n")
