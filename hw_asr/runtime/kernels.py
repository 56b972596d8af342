"""Numba kernels that are compiled once per machine: without the GIL, and with a cache that finds a writable place."""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Array = Any
"""An array in a kernel; its type stands in the signature."""
Scalar = Any
"""A number in a kernel, Numba's rather than Python's."""
PACKAGE = Path(__file__).parents[1]
KERNEL_FOLDERS = ("runtime", "decoders", "lm")
"""Where kernels live, below `PACKAGE`."""


def kernel(signature: str, inner: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function at once for one Numba signature, release the GIL in it and keep the machine code on disk.

    Kernels neither make arrays nor count references to them, which costs more than the work on a few numbers does.
    An `inner` kernel is called by kernels only: it is inlined, and no way in from Python is compiled.
    Modules that use this decorator cost an import of numba (0.3 s): import them inside the constructor that needs them.
    """
    numba: Any = importlib.import_module("numba")
    numba.config.CACHE_DIR = numba.config.CACHE_DIR or _cache_dir()

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = numba.njit(
            signature,
            nogil=True,
            cache=True,
            error_model="numpy",
            no_cfunc_wrapper=True,
            no_cpython_wrapper=inner,
            forceinline=inner,
            _nrt=False,
        )(function)
        return compiled

    return compile_


def user_cache_dir() -> Path:
    """Return a directory for files that can be made again, below `$XDG_CACHE_HOME` or `~/.cache`, else temporary."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home directory
        home = tempfile.gettempdir()
    path = Path(home, "hw_asr")
    if _is_writable(path):
        return path
    return Path(tempfile.gettempdir(), f"hw_asr-{os.getuid() if hasattr(os, 'getuid') else 'cache'}")


def _cache_dir() -> str:
    """Return a directory beside the source where that can be written, else a user's; another for every version.

    Numba looks at the file of the outermost kernel only, and would go on using inner kernels that have changed since.
    """
    beside = PACKAGE / "__pycache__"
    return str((beside if _is_writable(beside) else user_cache_dir()) / f"kernels-{_digest()}")


def _digest() -> str:
    """Return what tells the sources that kernels are made of from others."""
    content = hashlib.sha256()
    for path in sorted(path for folder in KERNEL_FOLDERS for path in (PACKAGE / folder).glob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _is_writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return True
    except OSError:
        return False
