"""Reading a config: JSON from a file, an overlay, overrides by dotted path."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from hw_asr.errors import ConfigError, nearest

MAX_BYTES = 16 << 20
MAX_DEPTH = 100
"""Levels of lists and objects in a config."""
_MAX_DIGITS = 9
"""Of the index of an item in a list."""
_TEXTS = ("name", "trainer.wandb_project", "trainer.wandb_run")
"""Keys whose values are text, also where an assignment looks like a number."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises ConfigError naming the file, and the line and column where it is not JSON.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(
                [f"{path}: larger than {MAX_BYTES >> 20} MiB; put long lists of recordings into a manifest"]
            )
        if path.is_dir():
            raise ConfigError([f"{path}: a directory; give a JSON file"])
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=_without_duplicates)
        json.dumps(value, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        advice = "; give a checkpoint with -r" * is_zipfile(path)
        raise ConfigError([f"{path}: not UTF-8 text: {error}{advice}"]) from error
    except json.JSONDecodeError as error:
        raise ConfigError([f"{path}: line {error.lineno} column {error.colno}: not JSON: {error.msg}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: nested deeper than {MAX_DEPTH} levels"]) from error
    except UnicodeEncodeError as error:
        raise ConfigError([f"{path}: a string contains half of a surrogate pair: {error.reason}"]) from error
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError([f"{path}: {error}"]) from error
    if not isinstance(value, dict):
        raise ConfigError([f"{path}: expected an object {{...}}, got {type(value).__name__}"])
    if _is_deeper(value, MAX_DEPTH):
        raise ConfigError([f"{path}: nested deeper than {MAX_DEPTH} levels"])
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object; raises ValueError for a key that it has twice, of which one would be lost."""
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"key {next(key for key, count in counts.items() if count > 1)!r} is there twice; keep one")
    return result


def _is_deeper(value: object, limit: int) -> bool:
    """Whether lists and objects are nested in each other more than `limit` times."""
    level = [value]
    for _ in range(limit + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return False
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return True


def overlay(base: Mapping[str, object], top: Mapping[str, object]) -> dict[str, Any]:
    """Return `base` with every top-level section that `top` has replaced by `top`'s."""
    return copy.deepcopy({**base, **top})


def override(raw: Mapping[str, object], assignments: Iterable[str]) -> dict[str, Any]:
    """Return `raw` with each `KEY=VALUE` applied: a dotted path, list items by index, values JSON where they parse.

    Raises ConfigError for text that is not KEY=VALUE, for a path through a value that has no keys, and for what
    `read_json` refuses.
    """
    result = copy.deepcopy(dict(raw))
    faults = []
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        shown = assignment if len(assignment) <= 100 else f"{assignment[:97]}..."
        if not separator or not path:
            faults.append(f"--set {shown}: expected KEY=VALUE, such as trainer.epochs=3")
            continue
        if not _is_text(assignment):
            faults.append(f"--set {shown}: not UTF-8 text; rename what it names")
            continue
        try:
            _assign(result, path.split("."), _value(path, text))
        except (LookupError, ValueError) as error:
            faults.append(f"--set {shown}: {error}")
    if faults:
        raise ConfigError(faults)
    return result


def _is_text(value: str) -> bool:
    """Whether a command-line argument was valid UTF-8; bytes that were not are surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _value(path: str, text: str) -> object:
    """Return the JSON value of an assignment, or its text; raises ValueError for JSON that no config may contain."""
    try:
        value: object = json.loads(text, object_pairs_hook=_without_duplicates)
    except (json.JSONDecodeError, RecursionError):
        return text
    if _is_deeper(value, MAX_DEPTH - path.count(".") - 1):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair
    return text if path in _TEXTS and isinstance(value, (bool, int, float)) else value


def _assign(node: object, keys: list[str], value: object) -> None:
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not key.isdecimal() or len(key) > _MAX_DIGITS or int(key) >= len(node):
                raise LookupError(
                    f"{'.'.join(keys[:depth])} is a list of {len(node)}; {key[:20]!r} is not a valid index"
                )
            if last:
                node[int(key)] = value
            else:
                node = node[int(key)]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            else:
                node = node.setdefault(key, {})
        else:
            raise LookupError(f"{'.'.join(keys[:depth])} is {node!r} and has no key {key!r}{nearest(key, ())}")
