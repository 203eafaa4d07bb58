"""run.yaml: read, overridden, checked, written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.run.settings import RunSettings


class _Loader(yaml.SafeLoader):
    """YAML in which ``on``, ``off``, ``yes`` and ``no`` are words, as in YAML 1.2.

    ``execute.on`` is a key that YAML 1.1 would read as ``true``.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> RunSettings:
    """Read run.yaml and apply ``key.sub=value`` overrides.

    Args:
        path: The YAML file.
        overrides: As given with ``--set``; values are YAML.

    Raises:
        SettingsError: The file is absent or no YAML, or a key or value is wrong; the message
            names the full key and the nearest valid one.
    """
    try:
        value = _yaml(path.read_text())
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): make one with `segflow init`"
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds no settings: make one with `segflow init`")
    for override in overrides:
        _apply(value, override)
    return parse_settings(value)


def _apply(value: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(
            f"--set {override}: give key.sub=value, for example train.max_minutes=10"
        )
    *parents, last = key.split(".")
    for parent in parents:
        inner = value.get(parent)
        if inner is None:
            inner = value[parent] = {}
        if not isinstance(inner, dict):
            raise SettingsError(f"--set {override}: {parent} holds a value, not settings")
        value = inner
    try:
        value[last] = _yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override}: {text!r} is not a YAML value") from error


def parse_settings(value: Mapping[str, Any]) -> RunSettings:
    """Check settings given as nested mappings.

    Raises:
        SettingsError: A key or value is wrong.
    """
    try:
        return RunSettings.model_validate(value)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(e) for e in error.errors())) from error


def _explain(error: Any) -> str:
    place = [str(p) for p in error["loc"]]
    key = ".".join(place)
    if error["type"] != "extra_forbidden":
        met = error.get("input")
        shown = f" (given: {met!r})" if isinstance(met, str | int | float | bool) else ""
        said = f"{error['msg'].removeprefix('Value error, ')}{shown}"
        return f"{key}: {said}" if key else said
    known = _fields(place[:-1])
    close = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.4)
    nearest = ".".join([*place[:-1], close[0]]) if close else None
    hint = f"did you mean {nearest}?" if nearest else f"known here: {', '.join(known)}"
    return f"{key}: there is no such setting; {hint}"


def _fields(place: Sequence[str]) -> list[str]:
    """Names of the settings at a place in the tree."""
    model: Any = RunSettings
    for part in place:
        if part.isdigit():
            continue
        annotation = model.model_fields[part].annotation
        model = next(
            (a for a in [annotation, *get_args(annotation)] if hasattr(a, "model_fields")), model
        )
    return list(model.model_fields)


def dump_settings(settings: RunSettings) -> str:
    """Settings as YAML, every value written out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
