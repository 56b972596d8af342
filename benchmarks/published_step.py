"""The published training step, re-created to measure against: what padding and habits cost, not how well it learns.

Recurrent layers and batch normalisation run over the padding, and every utterance builds its own mel transform.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from hw_asr.batch import Batch
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig


class PaddedDeepSpeech2(nn.Module):
    """DeepSpeech 2 over padded tensors, with torch's own layers and the parameter names of `DeepSpeech2`."""

    def __init__(self, n_feats: int, n_class: int, cnn_config: CNNConfig, gru_config: GRUConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, bins = 1, n_feats
        for spec in cnn_config.layers():
            padding = (spec.kernel[0] // 2, spec.kernel[1] // 2)
            layers.append(nn.Conv2d(channels, spec.channels, spec.kernel, spec.stride, padding))
            layers += [nn.BatchNorm2d(spec.channels), nn.ReLU()]
            channels, bins = spec.channels, -(-bins // spec.stride[0])
        self.cnn_block = nn.ModuleDict({"block": nn.Sequential(*layers)})
        self.gru_block = PaddedRecurrentBlock(channels * bins, gru_config.layers())
        self.linear = nn.Linear(2 * gru_config.layers()[-1], n_class)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Map (B, F, T) to logits (B, T', V)."""
        frames = self.cnn_block["block"](spectrogram[:, None]).flatten(1, 2).transpose(1, 2)
        logits: Tensor = self.linear(self.gru_block(frames))
        return logits


class PaddedRecurrentBlock(nn.Module):
    """Bidirectional GRUs, each with batch normalisation, over padded frames (B, T, input_size)."""

    def __init__(self, input_size: int, hidden: list[int]) -> None:
        super().__init__()
        sizes = [input_size] + [2 * size for size in hidden]
        self.rnn_layers = nn.ModuleList(
            nn.GRU(before, after // 2, batch_first=True, bidirectional=True)
            for before, after in itertools.pairwise(sizes)
        )
        self.bn_layers = nn.ModuleList(nn.BatchNorm1d(after) for after in sizes[1:])

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, T, input_size) to (B, T, 2H)."""
        for recur, normalize in zip(self.rnn_layers, self.bn_layers, strict=True):
            frames = normalize(recur(frames)[0].transpose(1, 2)).transpose(1, 2)
        return frames


class PublishedFeatures(NamedTuple):
    """What the published data loader gave to the step, on the CPU."""

    padded: Tensor
    """(B, F, T) logarithms of mel spectra."""
    lengths: Tensor
    """(B,) frames."""
    targets: Tensor
    target_lengths: Tensor


class PublishedStep:
    """A padded forward and backward pass, clipping, an update: float32, with torch's default numerics and optimiser."""

    def __init__(self, model: PaddedDeepSpeech2, time_stride: int, n_mels: int, device: torch.device) -> None:
        self.model = model.to(device)
        self._optimizer = torch.optim.Adam(model.parameters(), lr=6e-4)
        self._loss = nn.CTCLoss()
        self._time_stride = time_stride
        self._n_mels = n_mels
        self._device = device

    def features(self, batch: Batch, make_mel: Callable[..., nn.Module] | None = None) -> PublishedFeatures:
        """Compute the features one by one, as the published workers did, each with a transform of torchaudio's.

        Where their time does not count, `make_mel` may be another class with its arguments and results.
        """
        if make_mel is None:
            import torchaudio

            make_mel = torchaudio.transforms.MelSpectrogram
        spectrograms = []
        for samples, length in zip(batch.samples, batch.sample_lengths.tolist(), strict=True):
            mel = make_mel(sample_rate=16_000, n_mels=self._n_mels)
            spectrograms.append(torch.log(mel(samples[None, :length])[0] + 1e-5).T)
        lengths = torch.tensor([len(row) for row in spectrograms])
        padded = pad_sequence(spectrograms, batch_first=True).transpose(1, 2)
        return PublishedFeatures(padded, lengths, batch.targets, batch.target_lengths)

    def run(self, features: PublishedFeatures) -> float:
        """Update the model by one batch; return the loss."""
        padded = features.padded.to(self._device)
        self._optimizer.zero_grad()
        log_probs = self.model(padded).log_softmax(dim=-1).transpose(0, 1)
        output_lengths = (features.lengths + self._time_stride - 1) // self._time_stride
        loss = self._loss(log_probs, features.targets.to(self._device), output_lengths, features.target_lengths)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 400.0)
        self._optimizer.step()
        return float(loss.item())
