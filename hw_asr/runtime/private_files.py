"""Directories for files that are trusted when they are read back: nobody else may have written there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def user_cache_dir() -> Path | None:
    """Return the user's directory for files that can be made again, `hw_asr` in `$XDG_CACHE_HOME` or `~/.cache`.

    It is made if necessary, for the user only. None when that is not possible or others can write there.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return private_directory(home / "hw_asr")


def private_directory(path: Path) -> Path | None:
    """Make a directory for the user only, below an existing one; return it if it is writable and can be trusted."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError:
        return None
    return path if is_trusted(path) else None


def is_trusted(directory: Path) -> bool:
    """Return whether only the user and root can have written files in a directory, and it is not a symbolic link."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows: access lists, inherited from the user's profile
        return True
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
