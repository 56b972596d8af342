"""Errors that are for people: the entry points print them in one line, without a traceback, and exit non-zero."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something outside the program is wrong; the message says what was given, what was needed and what to do.

    Each package derives its own: ConfigError, DataError, AudioError, CheckpointError, StorageError, ...
    """


MAX_FAULT = 2000
"""Characters of a fault that are shown; values of a config may be long."""


class ConfigError(UserError):
    """A config that cannot run; the message lists every fault, one a line."""

    def __init__(self, faults: Iterable[str], source: str = "config") -> None:
        self.faults = [fault if len(fault) <= MAX_FAULT else f"{fault[:MAX_FAULT]}..." for fault in faults]
        count = f"{len(self.faults)} fault{'s' * (len(self.faults) != 1)}"
        super().__init__("\n  ".join([f"{source}: {count}", *self.faults]))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'? known: a, b" for a name that is unknown."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        candidate for candidate in known if candidate.lower() == name.lower()
    ]
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known) or 'none'}"
