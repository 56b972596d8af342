"""The layers of WavLM (arXiv:2110.13900) on padded batches; torchaudio's own loop takes no padding mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_wavlm(transformer: Any) -> bool:
    """Whether the attention of a transformer of torchaudio has WavLM's relative position bias."""
    return hasattr(transformer.layers[0].attention, "rel_attn_embed")


def run_wavlm(transformer: Any, states: Tensor, padding: Tensor) -> Tensor:
    """Return what the layers compute from states (B, T, C); `padding` (B, T) is added to the attention's scores.

    The first layer computes the position bias for all, so LayerDrop never leaves it out.
    """
    bias: Tensor | None = None
    states = transformer._preprocess(states)
    for number, layer in enumerate(transformer.layers):
        if number == 0 or not transformer.training or torch.rand(1).item() > transformer.layer_drop:
            states, bias = layer(states, None, position_bias=bias, key_padding_mask=padding)
    if not transformer.layer_norm_first:
        states = transformer.layer_norm(states)
    return states
