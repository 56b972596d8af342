"""What this machine's user allowed a run to do, so that continuing the run asks no second time.

A run's directory holds `.allowed`: an HMAC-SHA256 for each effect that its config had when a person started it. The key
lies in the user's state directory and never leaves the machine, so a directory that comes from elsewhere cannot bring
permissions along. A run may be moved; values that are edited later are no longer covered.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hw_asr.experiment.config_effects import Effect
from hw_asr.runtime.atomic_files import write_and_rename

logger = logging.getLogger(__name__)
NAME = ".allowed"
_KEY_BYTES = 32
_MAX_BYTES = 1 << 20


def remember(directory: Path, allowed: Iterable[Effect]) -> None:
    """Note in a run's directory what its config may do; a warning where the user's state directory is not writable."""
    effects = list(allowed)
    if not effects:
        return
    try:
        key = _read_key() or _make_key()
        codes = {_code(key, effect) for effect in effects}
        if not codes <= _codes(directory):
            with write_and_rename(directory / NAME, "w") as file:
                file.writelines(f"{code}\n" for code in sorted(codes))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        logger.warning(
            "cannot remember what this run's config may do (%s); to continue the run add --trust-config, "
            "and --allow-module for each module", error,
        )  # fmt: skip


def is_remembered(directory: Path, effect: Effect) -> bool:
    """Whether a person on this machine allowed the effect for the run in this directory."""
    with suppress(OSError, RuntimeError):
        key = _read_key()
        return key is not None and _code(key, effect) in _codes(directory)
    return False


def state_dir() -> Path:
    """Return the directory of this program below `$XDG_STATE_HOME` or `~/.local/state`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hw_asr"


def _code(key: bytes, effect: Effect) -> str:
    return hmac.new(key, effect.canonical(), hashlib.sha256).hexdigest()


def _codes(directory: Path) -> set[str]:
    path = directory / NAME
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return set()
    return set(path.read_text(encoding="ascii", errors="replace").split())


def _read_key() -> bytes | None:
    """Return this user's key; None when there is none, or another user could have written it."""
    path = state_dir() / "key"
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
            logger.warning("%s: not used, because other users can read or write it; delete it", path)
            return None
        key = file.read(_KEY_BYTES + 1)
    return key if len(key) == _KEY_BYTES else None


def _make_key() -> bytes:
    """Write a new key, readable by its owner only; of several processes the first one wins."""
    directory = state_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = directory / f".key.{secrets.token_hex(8)}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, directory / "key")
    finally:
        part.unlink()
    key = _read_key()
    if key is None:
        raise OSError(f"{directory / 'key'} is not usable")
    return key
