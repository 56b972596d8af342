"""Conformer (arXiv:2005.08100): self-attention and convolution over frames, with rotary positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hw_asr.config.registry import MODELS
from hw_asr.models.conformer_layer import ConformerLayer
from hw_asr.models.intermediate import IntermediateHeads
from hw_asr.models.packing import Packing
from hw_asr.models.rotary import RotaryPositions

_STRIDE = 4
"""Input frames per output frame."""


@MODELS.register()
class Conformer(nn.Module):
    """Logits from spectrograms, one frame for four input frames; padding does not affect the result.

    Frame-wise layers, normalisation and dropout work on rows of real frames only. Attention and the depthwise
    convolution work on the padded batch, with padding masked and zero.

    Args:
        n_feats: frequency bins of the spectrogram.
        n_class: output classes, the blank included.
        dim: size of a frame inside the encoder.
        num_layers: number of Conformer layers.
        num_heads: attention heads; `dim / num_heads` must be even.
        ffn_dim: hidden size of the two feed-forward modules of a layer.
        kernel_size: frames seen by the depthwise convolution; odd.
        dropout: probability of zeroing an activation, after each module of a layer.
        intermediate_layers: layers with a CTC head of their own, for intermediate CTC.
        self_conditioning: feed the class probabilities of these heads back into the encoder.
    """

    def __init__(
        self,
        n_feats: int,
        n_class: int,
        *,
        dim: int = 256,
        num_layers: int = 12,
        num_heads: int = 4,
        ffn_dim: int = 1024,
        kernel_size: int = 31,
        dropout: float = 0.1,
        intermediate_layers: Sequence[int] = (),
        self_conditioning: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"n_feats": n_feats, "n_class": n_class, "dim": dim, "num_layers": num_layers, "num_heads": num_heads}
        for name, value in {**sizes, "ffn_dim": ffn_dim, "kernel_size": kernel_size}.items():
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value}")
        if dim % (2 * num_heads):
            raise ValueError(f"dim: expected a multiple of 2 * num_heads = {2 * num_heads}, got {dim}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout: expected a probability in [0, 1), got {dropout}")
        self.subsampling = Subsampling(n_feats, dim)
        self.dropout = nn.Dropout(dropout)
        self.positions = RotaryPositions(dim // num_heads)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, num_heads, ffn_dim, kernel_size, dropout) for _ in range(num_layers)
        )
        self.intermediate_layers = tuple(sorted(intermediate_layers))
        self.intermediate = IntermediateHeads(intermediate_layers, [dim] * num_layers, n_class, self_conditioning)
        self.linear = nn.Linear(dim, n_class)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, n_feats, T) features, row b having `lengths[b]` frames, to logits (B, T', n_class).

        T' is `transform_input_lengths(T)`; beyond an utterance's own output length its logits are zero.
        """
        return self._encode(spectrogram, lengths, None)

    def forward_all(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of `forward` and those of each intermediate layer, in ascending order; all (B, T', V)."""
        inner: list[Tensor] = []
        return self._encode(spectrogram, lengths, inner), inner

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Map input lengths (B,) to output lengths (B,), in frames."""
        return (lengths + _STRIDE - 1) // _STRIDE

    def _encode(self, spectrogram: Tensor, lengths: Tensor, inner: list[Tensor] | None) -> Tensor:
        rows, packing = self.subsampling(spectrogram, lengths.cpu())
        rows = self.dropout(rows)
        rotation = self.positions(packing.num_frames, rows.device)
        for number, layer in enumerate(self.layers, start=1):
            rows = self.intermediate(number, layer(rows, packing, rotation), inner)
        if inner is not None:
            inner[:] = [packing.unpack(logits) for logits in inner]
        logits: Tensor = packing.unpack(self.linear(rows))
        return logits


class Subsampling(nn.Module):
    """Two convolutions of stride 2 over (frequency, time) and a linear layer: rows (N, dim) at a quarter of the rate.

    The second convolution is depthwise separable (arXiv:2305.05084), which costs a small share of a full one.
    """

    def __init__(self, n_feats: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, dim, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(dim, dim, 3, stride=2, padding=1, groups=dim)
        self.pointwise = nn.Conv2d(dim, dim, 1)
        self.linear = nn.Linear(dim * -(-n_feats // _STRIDE), dim)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, Packing]:
        """Map (B, F, T) and lengths (B,), on the CPU, to rows of real frames (N, dim) and their packing.

        Channels are the last dimension, in which the convolutions need no copies.
        """
        device = spectrogram.device
        inside = Packing.inside(lengths, spectrogram.shape[2], device)
        image = self._halved(spectrogram.transpose(1, 2).masked_fill(~inside[:, :, None], 0), (lengths + 1) // 2)
        image = self.depthwise(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, T'', F'', dim)
        packing = Packing((lengths + _STRIDE - 1) // _STRIDE, image.shape[1], device)
        rows = nn.functional.linear(packing.pack(image), self.pointwise.weight.flatten(1), self.pointwise.bias).relu_()
        weight = self.linear.weight.view(-1, rows.shape[2], rows.shape[1]).transpose(1, 2).flatten(1)  # frequency first
        return nn.functional.linear(rows.flatten(1), weight, self.linear.bias), packing

    def _halved(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, T, F) to the first convolution's output (B, T', F', dim), zero beyond the new lengths.

        The convolution is a product with the weights and, for a column of ones in the real frames, the bias.
        """
        padded = nn.functional.pad(spectrogram, (1, 1, 1, 1))
        patches = padded.unfold(1, 3, 2).unfold(2, 3, 2).flatten(3)  # (B, T', F', 9)
        inside = Packing.inside(lengths, patches.shape[1], patches.device)[:, :, None, None]
        columns = torch.cat([patches * inside, inside.expand(*patches.shape[:3], 1).to(patches.dtype)], dim=3)
        bias = self.first.bias
        assert bias is not None
        return nn.functional.linear(columns, torch.cat([self.first.weight.flatten(1), bias[:, None]], dim=1)).relu_()
