"""Fuzz target: recordings, above all wav headers, from the file to samples."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.datasets.audio import duration, read_audio
from hw_asr.datasets.recording import AudioError
from hw_asr.tests.fuzz.engine import Target


def _seeds() -> list[bytes]:
    samples = (np.sin(np.arange(800)) * 8000).astype(np.int16)
    seeds = []
    for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW"):
        content = io.BytesIO()
        soundfile.write(content, samples, 8000, subtype, format="WAV")
        seeds.append(content.getvalue())
    content = io.BytesIO()
    soundfile.write(content, np.stack([samples, samples], 1), 8000, "PCM_16", format="WAVEX")
    return [*seeds, content.getvalue()]


def _parse(path: Path) -> None:
    with suppress(AudioError):
        duration(path)
    read_audio(path, 16000)


TARGET = Target(
    seeds=_seeds,
    parse=_parse,
    suffix=".wav",
    tokens=(
        b"RIFF", b"RF64", b"WAVE", b"fmt ", b"data", b"LIST", b"ds64", b"fact", b"fLaC", b"OggS", b"ID3",
        *(struct.pack("<I", number) for number in (0, 1, 0xFFFFFFFF)),
        *(struct.pack("<H", number) for number in (0, 64)),
        *(struct.pack("<HH", *numbers) for numbers in ((1, 1), (1, 0), (0xFFFE, 2))),
    ),
)  # fmt: skip
