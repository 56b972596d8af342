"""Fuzz target: the cached arrays of a language model; what is accepted is decoded with, so that a bad index crashes."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from functools import cache
from pathlib import Path

import torch

from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.lm.cache import MAGIC, cache_paths
from hw_asr.tests.arpa_example import ArpaExample, all_words
from hw_asr.tests.fuzz.engine import Target
from hw_asr.text.encoder import CTCCharTextEncoder

ENCODER = CTCCharTextEncoder("ab ")
TEXT = ArpaExample(all_words("ab", 2), 3, 0).text()


def _write_model(directory: Path) -> Path:
    model = directory / "model.arpa"
    model.write_text(TEXT, encoding="utf-8")
    os.utime(model, ns=(1, 1))  # the cache belongs to a file of this age
    return model


def _decode(model: Path) -> None:
    log_probs = torch.randn(1, 20, 4, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    LanguageModelBeamSearchDecoder(ENCODER, model, beam_size=20)(log_probs, torch.tensor([20]))


@cache
def _seed() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        model = _write_model(Path(directory))
        _decode(model)
        return cache_paths(model, ENCODER.alphabet)[0].read_bytes()


def _parse(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        model = _write_model(Path(directory))
        cache_paths(model, ENCODER.alphabet)[0].write_bytes(path.read_bytes())
        _decode(model)


def _write(path: Path, data: bytes) -> None:
    """Write a mutated cache with the size in its header mended, as a forger would."""
    start = len(MAGIC) + 4
    if data[: len(MAGIC)] == MAGIC and len(data) > start:
        (room,) = struct.unpack("<I", data[len(MAGIC) : start])
        try:
            header = json.loads(data[start : start + room])
            header["size"] = len(data)
            text = json.dumps(header).encode()
        except (ValueError, TypeError, RecursionError):
            text = b""
        if 0 < len(text) <= room:
            data = data[:start] + text.ljust(room) + data[start + room :]
    path.write_bytes(data)


TARGET = Target(
    seeds=lambda: [_seed()],
    parse=_parse,
    suffix=".cache",
    tokens=(b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff",
            b"{", b"}", b"<f4", b"<i4", b"0", b"99999999999", b"-1", b"null"),
    write=_write,
)  # fmt: skip
