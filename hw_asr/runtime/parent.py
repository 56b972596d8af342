"""Ends a process of torchrun when torchrun is gone, which could not end it."""

from __future__ import annotations

import os
import signal
import threading
import time

POLL_SECONDS = 1.0
SECONDS_TO_SAVE = 300.0


def end_with_torchrun() -> None:
    """Send this process SIGTERM, so that it saves and ends, when torchrun has died without doing so.

    Does nothing in a process that torchrun did not start. A process that does not end by itself, because it waits for
    another one, is ended after `SECONDS_TO_SAVE`.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_watch, args=(os.getppid(),), name="parent watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os._exit(128 + signal.SIGTERM)
