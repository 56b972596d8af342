"""Errors of exhausted memory, on a GPU or on the machine, as messages with advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hw_asr.errors import UserError

_OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "can't allocate memory", "alloc_failed", "allocation_failed",
    "unable to find an engine",
)  # fmt: skip
"""From torch's allocators, the CUDA runtime, cuBLAS and cuDNN; the last when no workspace can be allocated."""


class MemoryExhaustedError(UserError):
    """The device or the machine has too little memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the machine has no memory left."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


@contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error into a MemoryExhaustedError that ends with `advice`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MemoryExhaustedError(f"out of memory: {reason}; {advice}") from error
