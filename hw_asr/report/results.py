"""The form of output.json: a list of results, one per recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_asr.errors import UserError

Result = Mapping[str, Any]
PREFIX = "pred_text_"
LABELS = {"argmax": "argmax", "beam_search": "beam search", "lm_beam_search": "beam search + LM"}
"""What people call the decoders; the simplest first."""


class ReportError(UserError):
    """A file that cannot be reported on."""


def read_results(path: Path) -> list[Result]:
    """Read an output.json; ReportError when it is something else."""
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
    return results


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
