"""JSON values that are neither lists nor objects: numbers, strings, true and false, null, and paths."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple


class _Plain(NamedTuple):
    words: str
    accepted: tuple[type, ...]
    """Python types of the JSON values. true and false are integers in Python, and are refused as such."""


_PLAIN: dict[object, _Plain] = {
    int: _Plain("an integer", (int,)),
    float: _Plain("a number", (int, float)),
    str: _Plain("a string", (str,)),
    bool: _Plain("true or false", (bool,)),
    None: _Plain("null", (type(None),)),
    type(None): _Plain("null", (type(None),)),
    Path: _Plain("a path", (str, Path)),
}
_LARGEST = 3.4e38
"""Tensors hold 32-bit floats."""


def check_plain(annotation: object, value: object, path: str) -> list[str]:
    """List the faults of a JSON value against an annotation; one that is not plain accepts all but NaN."""
    accepted = _PLAIN[annotation].accepted if annotation in _PLAIN else (object,)
    truth = isinstance(value, bool) and bool not in accepted and object not in accepted
    is_impossible = value != value or (annotation is Path and "\0" in str(value))  # NaN; a name that no file has
    if truth or is_impossible or not isinstance(value, accepted):
        return [f"{path}: expected {describe_plain(annotation)}, got {show(value)}"]
    if annotation is float and isinstance(value, (int, float)) and _LARGEST < abs(value) < math.inf:
        return [f"{path}: expected at most {_LARGEST:g}, got {show(value)}"]
    return []


def convert_plain(annotation: object, value: object) -> object:
    """Convert a checked value to the annotated type: a string to a path, where a leading `~` is the home directory."""
    if annotation is Path and isinstance(value, str):
        return Path(os.path.expanduser(value))  # noqa: PTH111 - Path.expanduser raises for a user that does not exist
    return value


def describe_plain(annotation: object) -> str:
    """Return a description of the values that a plain annotation accepts; "a value" for any other."""
    return _PLAIN[annotation].words if annotation in _PLAIN else "a value"


def show(value: object) -> str:
    """Return a value for a message, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
