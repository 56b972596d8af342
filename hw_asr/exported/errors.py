"""Errors of exporting, and of reading what was exported."""

from __future__ import annotations

from hw_asr.errors import UserError


class ExportError(UserError):
    """A model that cannot be exported."""


class ExportedModelError(UserError):
    """A file that is not an exported model of this program, or that cannot be run."""
