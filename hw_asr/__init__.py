"""hw_asr: train and run CTC speech recognisers.

    import hw_asr
    recogniser = hw_asr.load("model_best.pth")
    print(recogniser.transcribe("talk.m4a").text)

Importing the package is quick: torch and everything else heavy is loaded by `hw_asr.load`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from hw_asr.errors import UserError as Error

if TYPE_CHECKING:
    from hw_asr.recognition.loading import load
    from hw_asr.recognition.recogniser import Recogniser
    from hw_asr.recognition.results import Alternative, Result, Segment
    from hw_asr.types import Word

__all__ = ["Alternative", "Error", "Recogniser", "Result", "Segment", "Word", "load"]

# Threads that wait for each other by spinning take the cores from whatever else runs (data workers, other processes of
# a shared machine): a step then takes up to 30 times as long. Sleeping costs more the smaller the operations are; small
# networks train faster on one thread (docs/training.md). The OpenMP runtime reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_WHERE = {
    "load": "hw_asr.recognition.loading",
    "Recogniser": "hw_asr.recognition.recogniser",
    "Alternative": "hw_asr.recognition.results",
    "Result": "hw_asr.recognition.results",
    "Segment": "hw_asr.recognition.results",
    "Word": "hw_asr.types",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'hw_asr' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
