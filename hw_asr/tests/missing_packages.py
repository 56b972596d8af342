"""Pretends that packages are not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def missing(*names: str) -> Iterator[None]:
    """Let imports of these modules fail.

    Unlike `mock.patch.dict(sys.modules, ...)` it keeps modules that are first imported meanwhile, so that none is
    imported twice.
    """
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)
