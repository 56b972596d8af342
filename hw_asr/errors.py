"""Errors that are for people: the entry points print them in one line, without a traceback, and exit non-zero."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong; the message says what was given, what was needed and what to do.

    Each package derives its own: ConfigError, DataError, AudioError, CheckpointError, StorageError, ...
    """
