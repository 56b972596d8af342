"""Fuzz target: the pickle inside a checkpoint, in an archive whose checksums are right."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.tests.fuzz.engine import Target

_STATE = {
    "state_dict": {"w": torch.ones(2, 2), "b": torch.nn.Parameter(torch.zeros(3))},
    "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 0.99), "params": [0]}]},
    "config": {"name": "x", "list": [1, None, True, 2.5]},
}
_STORAGES = {"0": bytes(16), "1": bytes(12), "2": bytes(4)}


def _seeds() -> list[bytes]:
    file = io.BytesIO()
    torch.save(_STATE, file)
    with zipfile.ZipFile(file) as archive:
        return [archive.read("archive/data.pkl")]


def _write(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in _STORAGES.items():
            archive.writestr(f"archive/data/{key}", content)


TARGET = Target(
    seeds=_seeds,
    parse=load_checkpoint,
    suffix=".pth",
    tokens=(
        *(bytes([opcode]) for opcode in b"()}]asuetRbQN.\x85\x86"), b"h\x00", b"q\x01", b"X\x01\x00\x00\x00a",
        b"cos\nsystem\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"\x8a\x09" + b"\xff" * 9,
    ),
    write=_write,
)  # fmt: skip
