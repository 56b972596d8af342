"""Names of runs and of the files in their directories, the same here and on an external storage."""

from __future__ import annotations

import re
from typing import NamedTuple

from hw_asr.errors import UserError
from hw_asr.runtime.printable import has_control_characters

CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.jsonl"
CHECKPOINT_SUFFIX = ".pth"
LOG_NAME = "train.log"
MAX_NAME_BYTES = 200
"""Of a directory or file; systems allow 255, and hidden files beside them have longer names."""
_UNSAFE = re.compile(r"[/\\:]")


class RunError(UserError):
    """A run or checkpoint that does not exist, exists already, or is in use."""


class RunId(NamedTuple):
    """What a run is called, here and on an external storage; written EXPERIMENT:RUN."""

    experiment: str
    name: str

    @classmethod
    def parse(cls, text: str) -> RunId:
        """Read EXPERIMENT:RUN; RunError when it is not of that form."""
        experiment, colon, name = text.partition(":")
        if not (colon and is_safe_name(experiment) and is_safe_name(name)):
            raise RunError(f"run {text!r}: expected EXPERIMENT:RUN, for example deepspeech2:1122_183400")
        return cls(experiment, name)

    def __str__(self) -> str:
        return f"{self.experiment}:{self.name}"


def checkpoint_file(name: str) -> str:
    """File name of a checkpoint; `name` with or without its suffix."""
    return name if name.endswith(CHECKPOINT_SUFFIX) else name + CHECKPOINT_SUFFIX


def is_safe_name(name: str) -> bool:
    """Whether a name can be that of a directory or file on every system, and of one only."""
    if (
        not name
        or _UNSAFE.search(name)
        or has_control_characters(name)
        or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES
    ):
        return False
    return not name.startswith(".") and name == name.rstrip(". ")
