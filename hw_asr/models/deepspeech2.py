"""DeepSpeech 2 (arXiv:1512.02595): convolutions, recurrent layers with batch normalisation, a linear layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.config.registry import MODELS
from hw_asr.models.deepspeech2_config import CNNConfig, ConvSpec, GRUConfig, LookaheadConfig
from hw_asr.models.gru import FrameGRU
from hw_asr.models.intermediate import IntermediateHeads
from hw_asr.models.normalization import FrameBatchNorm
from hw_asr.models.packing import Packing

MAX_FUTURE_TIME = 10_000
"""Frames of the lookahead convolution, minutes of audio."""


@MODELS.register()
class DeepSpeech2(nn.Module):
    """Logits from spectrograms; the result of an utterance does not depend on padding or on the rest of the batch.

    Frames are packed: convolutions are followed by zeroing what lies beyond an utterance's end, and everything after
    them works on rows of real frames only.

    Args:
        n_feats: frequency bins of the spectrogram.
        n_class: output classes, the blank included.
        cnn_config: convolutions over frequency and time.
        gru_config: recurrent layers.
        lookahead_config: a convolution over following frames before the last layer; none by default.
        intermediate_layers: recurrent layers with a CTC head of their own, for intermediate CTC.
        self_conditioning: feed the class probabilities of these heads back into the network.
    """

    def __init__(
        self,
        n_feats: int,
        n_class: int,
        cnn_config: CNNConfig,
        gru_config: GRUConfig,
        lookahead_config: LookaheadConfig | None = None,
        intermediate_layers: Sequence[int] = (),
        self_conditioning: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("n_feats", n_feats), ("n_class", n_class)):
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value}")
        self.cnn_block = ConvolutionBlock(n_feats, cnn_config.layers())
        self.gru_block = RecurrentBlock(self.cnn_block.output_size, gru_config)
        size = self.gru_block.output_size
        self.lookahead = Lookahead(size, lookahead_config.future_time) if lookahead_config else None
        self.linear = nn.Linear(size, n_class)
        self.intermediate_layers = tuple(sorted(intermediate_layers))
        sizes = self.gru_block.layer_sizes
        self.intermediate = IntermediateHeads(intermediate_layers, sizes, n_class, self_conditioning)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, n_feats, T) features, row b having `lengths[b]` frames, to logits (B, T', n_class).

        T' is `transform_input_lengths(T)`; beyond an utterance's own output length its logits are zero.
        """
        return self._run(spectrogram, lengths, None)

    def forward_all(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of `forward` and those of each intermediate layer, in ascending order; all (B, T', V)."""
        inner: list[Tensor] = []
        return self._run(spectrogram, lengths, inner), inner

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Map input lengths (B,) to output lengths (B,), in frames."""
        output_lengths: Tensor = self.cnn_block.transform_input_lengths(lengths)
        return output_lengths

    def _run(self, spectrogram: Tensor, lengths: Tensor, inner: list[Tensor] | None) -> Tensor:
        rows: Tensor
        packing: Packing
        rows, packing = self.cnn_block(spectrogram, lengths.cpu())
        rows = self.gru_block(rows, packing, partial(self.intermediate, collected=inner))
        if self.lookahead is not None:
            rows = self.lookahead(rows, packing)
        if inner is not None:
            inner[:] = [packing.unpack(logits) for logits in inner]
        return packing.unpack(self.linear(rows))


class ConvolutionBlock(nn.Module):
    """Convolution, batch normalisation and ReLU per layer, over (frequency, time)."""

    def __init__(self, n_feats: int, specs: list[ConvSpec]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, bins = 1, n_feats
        for spec in specs:
            padding = (spec.kernel[0] // 2, spec.kernel[1] // 2)
            layers += [
                nn.Conv2d(channels, spec.channels, spec.kernel, spec.stride, padding),
                FrameBatchNorm(spec.channels),
                nn.ReLU(),
            ]
            channels, bins = spec.channels, math.ceil(bins / spec.stride[0])
        self.block = nn.Sequential(*layers)
        self.output_size = channels * bins
        self._time_strides = [spec.stride[1] for spec in specs]

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, Packing]:
        """Map (B, F, T) and lengths (B,), on the CPU, to rows of real frames (N, channels * bins) and their packing."""
        num_frames, device = spectrogram.shape[2], spectrogram.device
        packing = Packing(lengths, num_frames, device)
        rows = packing.pack(spectrogram.transpose(1, 2))[:, None]
        layers = iter(self.block)
        for stride, convolve, normalize, activate in zip(self._time_strides, layers, layers, layers, strict=True):
            padded = packing.unpack(rows)
            lengths, num_frames = _strided(lengths, stride), _strided(num_frames, stride)
            packing = Packing(lengths, num_frames, device)
            if packing.num_rows == 0:
                rows = rows.new_zeros(0, self.output_size)
                continue
            image = padded.permute(0, 2, 3, 1).contiguous(memory_format=_fastest_format(device))
            rows = packing.pack(convolve(image).permute(0, 3, 1, 2))
            rows = activate(normalize(rows))
        return rows.flatten(1), packing

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Map input lengths to output lengths, in frames."""
        for stride in self._time_strides:
            lengths = _strided(lengths, stride)
        return lengths


class RecurrentBlock(nn.Module):
    """GRU layers, each with its own batch normalisation, over rows of real frames."""

    def __init__(self, input_size: int, config: GRUConfig) -> None:
        super().__init__()
        directions = 2 if config.bidirectional else 1
        hidden = config.layers()
        inputs = [input_size, *(directions * size for size in hidden)]
        self.layer_sizes = inputs[1:]
        self.output_size = inputs.pop()
        self.rnn_layers = nn.ModuleList(
            FrameGRU(size, dim, config.bidirectional) for size, dim in zip(inputs, hidden, strict=True)
        )
        self.bn_layers = nn.ModuleList(
            FrameBatchNorm(directions * size) if config.use_batch_norm else nn.Identity() for size in hidden
        )
        self._dropout = config.dropout

    def forward(self, rows: Tensor, packing: Packing, tap: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Map rows (N, input_size) to (N, output_size).

        `tap` gets the number of each layer, from 1, with its output, and returns what the next layer reads.
        """
        layers = list(zip(self.rnn_layers, self.bn_layers, strict=True))
        for number, (recur, normalize) in enumerate(layers, start=1):
            rows = tap(number, normalize(recur(rows, packing)))
            if number < len(layers):
                rows = F.dropout(rows, self._dropout, self.training)
        return rows


class Lookahead(nn.Module):
    """A weighted sum of each feature over the frame and those that follow (DeepSpeech 2, section 3.5)."""

    def __init__(self, size: int, future_time: int) -> None:
        super().__init__()
        if not 1 <= future_time <= MAX_FUTURE_TIME:
            raise ValueError(f"lookahead_config.future_time: expected 1 to {MAX_FUTURE_TIME}, got {future_time}")
        self.conv = nn.Conv1d(size, size, future_time, groups=size, bias=False)

    def forward(self, rows: Tensor, packing: Packing) -> Tensor:
        """Map rows (N, size) to (N, size); frame t sees t, ..., t + future_time - 1."""
        if packing.num_rows == 0:
            return rows
        padded = packing.unpack(rows).transpose(1, 2)
        ahead = self.conv.kernel_size[0] - 1
        return packing.pack(self.conv(F.pad(padded, (0, ahead))).transpose(1, 2))


def _fastest_format(device: torch.device) -> torch.memory_format:
    """Return the layout of images; on a CPU the gradient by a kernel is a quarter faster with channels last."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


Length = TypeVar("Length", int, Tensor)


def _strided(length: Length, stride: int) -> Length:
    """Return the frames left of `length` by a centred odd kernel that hops by `stride`."""
    return (length + stride - 1) // stride
