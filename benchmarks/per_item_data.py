"""The common way from files to features, every item by itself, which `benchmarks.data` compares with ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from hw_asr.types import Utterance

RATE = 16_000
BATCH_SIZE = 20


class PerItem(Dataset[Tensor]):
    """Decodes, resamples and transforms one utterance at a time; with `kept`, one transform serves all."""

    def __init__(self, utterances: Sequence[Utterance], kept: bool) -> None:
        self._paths = [str(utterance.audio_path) for utterance in utterances]
        self._transform = torchaudio.transforms.MelSpectrogram(sample_rate=RATE) if kept else None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        samples, rate = soundfile.read(self._paths[index], dtype="float32", always_2d=True)
        wave = torch.from_numpy(samples.T)[:1]
        if rate != RATE:
            wave = torchaudio.functional.resample(wave, rate, RATE)
        transform = self._transform or torchaudio.transforms.MelSpectrogram(sample_rate=RATE)
        features: Tensor = torch.log(transform(wave) + 1e-5)
        return features[0].T


def pad(items: list[Tensor]) -> Tensor:
    """Collate spectrograms."""
    return pad_sequence(items, batch_first=True)


def per_item(utterances: Sequence[Utterance], num_workers: int, kept: bool) -> Iterator[int]:
    """Yield the size of each batch after its features are computed."""
    dataset = PerItem(utterances, kept)
    for batch in DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=num_workers, collate_fn=pad):
        yield len(batch)
