"""A writer that runs in a thread beside training."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from hw_asr.writers.base import AudioClip, Writer

MAX_WAITING = 32
"""Limit of waiting calls, which bounds memory."""


class BackgroundWriter:
    """Passes calls to `writer` in order, in a thread of its own, so that training does not wait for files.

    Tensors are copied immediately. An exception of the writer is raised by the next call. TimeoutError is raised if the
    writer does not respond for `patience` seconds. `state_dict` and `close` wait until all calls have been passed on.
    """

    def __init__(self, writer: Writer, patience: float = 120.0) -> None:
        self.writer = writer
        self._patience = patience
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(MAX_WAITING)
        self._error: Exception | None = None
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers under their names."""
        numbers = {name: float(value) for name, value in values.items()}
        self._put(lambda: self.writer.scalars(step, numbers))

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Log rows of plain values and AudioClips."""
        copies = [[_copied(value) for value in row] for row in rows]
        self._put(lambda: self.writer.table(step, name, columns, copies))

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log a picture, (H, W, 3) uint8."""
        copy = _copied_tensor(pixels)
        self._put(lambda: self.writer.image(step, name, copy))

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Log the distribution of a tensor of any shape."""
        copy = _copied_tensor(values)
        self._put(lambda: self.writer.histogram(step, name, copy))

    def state_dict(self) -> dict[str, object]:
        """Return the writer's state after all calls so far."""
        self._drain()
        return self.writer.state_dict()

    def close(self) -> None:
        """Wait for all calls so far, then close the writer."""
        self._drain()
        self.writer.close()

    def _put(self, call: Callable[[], None]) -> None:
        self._raise_error()
        try:
            self._calls.put(call, timeout=self._patience)
        except queue.Full:
            raise TimeoutError(f"no response for {self._patience:g} s") from None

    def _drain(self) -> None:
        done = threading.Event()
        self._put(done.set)
        if not done.wait(self._patience):
            self._raise_error()
            raise TimeoutError(f"not finished after {self._patience:g} s")
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call()
            except Exception as error:  # raised again in the training thread
                self._error = self._error or error


def _copied(value: object) -> object:
    if isinstance(value, AudioClip):
        return AudioClip(_copied_tensor(value.samples), value.sample_rate)
    return _copied_tensor(value) if isinstance(value, Tensor) else value


def _copied_tensor(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
