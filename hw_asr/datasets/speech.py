"""The dataset of PyTorch: from an index to a decoded utterance, or to the reason why it cannot be decoded."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hw_asr.batch import Example, Failure
from hw_asr.datasets.audio import read_recording
from hw_asr.datasets.recording import MAX_AUDIO_HOURS, AudioError, Damage, Piece, Recording
from hw_asr.types import TextEncoder, Utterance


class SpeechDataset(Dataset[Example | Failure]):
    """Decodes utterances and encodes their texts; a recording that cannot be decoded is a Failure, never an exception.

    A recording with more damage than `tolerated`, or longer than `max_audio_hours`, is a Failure, too. Training leaves
    out what is certainly incomplete; recognition tolerates all damage unless it is strict.

    The utterances are kept as one block of JSON: reading Python objects changes their reference counts, so that every
    worker process would copy the whole list.
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        text_encoder: TextEncoder,
        sample_rate: int,
        tolerated: Damage = Damage.POSSIBLE,
        max_audio_hours: float = MAX_AUDIO_HOURS,
    ) -> None:
        rows, ends, durations = bytearray(), array("q"), array("d")
        for utterance in utterances:
            rows += _pack(utterance)
            ends.append(len(rows))
            durations.append(utterance.duration)
        self._rows: NDArray[np.uint8] = np.frombuffer(rows, dtype=np.uint8)
        self._ends: NDArray[np.int64] = np.array(ends, dtype=np.int64)
        self.durations: NDArray[np.float64] = np.array(durations, dtype=np.float64)
        self.text_encoder = text_encoder
        self.sample_rate = sample_rate
        self._tolerated = tolerated
        self._max_audio_hours = max_audio_hours

    def __len__(self) -> int:
        return len(self._ends)

    def utterance(self, index: int) -> Utterance:
        """Return an utterance without decoding it."""
        start = int(self._ends[index - 1]) if index else 0
        return _unpack(self._rows[start : int(self._ends[index])].tobytes())

    def __getitem__(self, index: int) -> Example | Failure:
        """Decode one utterance; without a text its targets are empty."""
        utterance = self.utterance(index)
        try:
            recording = self._read(utterance)
            targets = self.text_encoder.encode(utterance.text or "")
        except (AudioError, ValueError) as error:
            return Failure(utterance, " ".join(str(error).split()))
        samples = torch.from_numpy(recording.samples)
        return Example(utterance, samples, torch.tensor(targets, dtype=torch.int64), recording.warning)

    def _read(self, utterance: Utterance) -> Recording:
        path = Path(utterance.audio_path)
        piece = None if utterance.offset is None else Piece(utterance.offset, utterance.duration or None)
        recording = read_recording(path, self.sample_rate, piece, self._max_audio_hours)
        if recording.damage > self._tolerated:
            raise AudioError(f"{path}: {recording.warning}")
        return recording


def _pack(utterance: Utterance) -> bytes:
    return json.dumps(utterance).encode()


def _unpack(row: bytes) -> Utterance:
    return Utterance._make(json.loads(row))
