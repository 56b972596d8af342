"""The error of a checkpoint file."""

from __future__ import annotations

from hw_asr.errors import UserError


class CheckpointError(UserError):
    """A file that is not a checkpoint, is damaged, or does not fit the model; the message names the file."""


class FormatError(Exception):
    """The content of a file is not that of a checkpoint; the reader adds the file's name."""
