"""The form of output.json: a list of results, one per recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_asr.errors import UserError

Result = Mapping[str, Any]
PREFIX = "pred_text_"
LABELS = {"argmax": "argmax", "beam_search": "beam search", "lm_beam_search": "beam search + LM"}
"""What people call the decoders; the simplest first."""


_MAX_NUMBER = 1e15


class ReportError(UserError):
    """A file that cannot be reported on."""


def read_results(path: Path) -> list[Result]:
    """Read an output.json; ReportError when it is something else, also in one of the fields that pages show."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: is not JSON: {error}") from error
    if not isinstance(results, list) or not all(
        isinstance(result, dict) and "audio_path" in result for result in results
    ):
        raise ReportError(f"{path}: expected the output of test.py, a list of objects with an audio_path each")
    for number, result in enumerate(results, 1):
        for name, value in result.items():
            if not _is_valid(name, value):
                raise ReportError(f"{path}: entry {number}: {name[:60]!r} is not what test.py writes")
    return results


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FIELDS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("duration", "loss", "offset"), _is_number),
    **dict.fromkeys(("audio_path", "ground_truth", "error", "warning"), _is_text),
    "speaker": lambda value: _is_text(value) or _is_number(value),
}
_PARTS: dict[str, dict[str, Callable[[object], bool]]] = {
    "words": {"word": _is_text, "start": _is_number, "end": _is_number, "confidence": _is_number},
    "segments": {"text": _is_text, "start": _is_number, "end": _is_number},
}


def _is_valid(name: str, value: object) -> bool:
    """Whether a field of a result has a value that a page can show; other fields than these are not shown."""
    if value is None:
        return name != "audio_path"
    if name in _FIELDS:
        return _FIELDS[name](value)
    if name in _PARTS:
        return isinstance(value, list) and all(
            isinstance(part, dict) and all(check(part.get(key)) for key, check in _PARTS[name].items())
            for part in value
        )
    if name.startswith(PREFIX):
        return _is_text(value) or (isinstance(value, list) and all(isinstance(text, list) and text for text in value))
    return True


def decoders_of(results: Sequence[Result]) -> list[str]:
    """Return the decoders that results know, the simplest first."""
    found = {key[len(PREFIX) :] for result in results for key in result if key.startswith(PREFIX)}
    return [name for name in LABELS if name in found] + sorted(found - set(LABELS))


def best_text(result: Result, decoder: str) -> str | None:
    """Return a decoder's best text; None when it was not run, "" when it found nothing."""
    value = result.get(PREFIX + decoder)
    if value is None or isinstance(value, str):
        return value
    return str(value[0][0]) if value else ""
