"""Fuzz target: checkpoint files, the archive and what is in it."""

from __future__ import annotations

import io

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.tests.fuzz.engine import Target


def _seeds() -> list[bytes]:
    file = io.BytesIO()
    torch.save({"state_dict": {"w": torch.ones(2, 2)}, "config": {"name": "x"}}, file)
    return [file.getvalue()]


TARGET = Target(
    seeds=_seeds,
    parse=load_checkpoint,
    suffix=".pth",
    tokens=(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"archive/data/0", b"code/"),
)
