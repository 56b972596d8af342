"""wav2vec 2.0 (arXiv:2006.11477), HuBERT and WavLM encoders of torchaudio with a CTC output layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.config.registry import MODELS
from hw_asr.features import length_mask
from hw_asr.pretrained.bundles import BASE_URL, load_layout, load_weights_of
from hw_asr.pretrained.time_masking import draw_spans
from hw_asr.pretrained.wavlm import is_wavlm, run_wavlm

_MASKED = -1e4  # what an attention score loses at padding; finite, so that rows of padding alone stay finite


@MODELS.register()
class Wav2Vec2(nn.Module):
    """Logits from waveforms (`"spectrogram": {"type": "Waveform"}`); padding does not affect the result.

    A new training run starts from the published weights, see `load_pretrained`. A checkpoint of this model holds all
    of its weights, so recognition and resuming download nothing.

    Args:
        n_feats: 1; the front end has to be `Waveform`.
        n_class: output classes, the blank included.
        bundle: name of a model in `torchaudio.pipelines`, for example WAV2VEC2_BASE or HUBERT_BASE.
        freeze_feature_extractor: keep the convolutions as they are.
        mask_prob: frames covered by masked spans in training, overlaps counted twice, as a share of all frames.
        mask_length: length of a masked span, in frames of 20 ms.
        weights_dir: where downloaded weights are kept.
        base_url: where they come from; MMS_FA has an address of its own.
    """

    def __init__(
        self,
        n_feats: int,
        n_class: int,
        *,
        bundle: str = "WAV2VEC2_BASE",
        freeze_feature_extractor: bool = True,
        mask_prob: float = 0.65,
        mask_length: int = 10,
        weights_dir: Path = Path("data/pretrained"),
        base_url: str = BASE_URL,
    ) -> None:
        super().__init__()
        if n_feats != 1:
            raise ValueError('preprocessing.spectrogram: Wav2Vec2 reads waveforms; use {"type": "Waveform"}')
        if not 0 <= mask_prob < 1:
            raise ValueError(f"mask_prob: expected a number in [0, 1), got {mask_prob}")
        if mask_length < 1:
            raise ValueError(f"mask_length: expected a positive integer, got {mask_length}")
        layout = load_layout(bundle)
        self._normalize, self._source = layout.normalize, (layout, weights_dir, base_url)
        self._mask_prob, self._mask_length = mask_prob, mask_length
        self.sample_rate = layout.sample_rate
        parts: Any = layout.encoder
        self.feature_extractor: Any = parts.feature_extractor
        self.encoder: Any = parts.encoder
        self._strides = [(layer.kernel_size, layer.stride) for layer in self.feature_extractor.conv_layers]
        size: int = self.encoder.transformer.pos_conv_embed.embed_dim
        self.mask_embedding = nn.Parameter(torch.empty(size).uniform_())
        self.linear = nn.Linear(size, n_class)
        self._frozen = freeze_feature_extractor
        if freeze_feature_extractor:
            self.feature_extractor.requires_grad_(False)

    def load_pretrained(self) -> None:
        """Download the published weights, unless they are in `weights_dir`, and load them into the encoder.

        Raises DownloadError and PretrainedError.
        """
        layout, directory, base_url = self._source
        load_weights_of(layout, directory, base_url)

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, 1, T) samples, row b having `lengths[b]`, to logits (B, T', n_class).

        T' is `transform_input_lengths(T)`; beyond an utterance's own output length its logits are zero.
        """
        on_cpu = lengths.cpu()
        frame_lengths = self.transform_input_lengths(on_cpu)
        num_frames = max(1, int(self.transform_input_lengths(torch.tensor(spectrogram.shape[2]))))
        frames = length_mask(frame_lengths, num_frames, spectrogram.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features = self._features(spectrogram, on_cpu, num_frames)
        states: Tensor = self.encoder.feature_projection(features)
        if self.training and self._mask_prob > 0:
            spans = draw_spans(frame_lengths, num_frames, self._mask_prob, self._mask_length).to(states.device)
            states = torch.where(spans[..., None], self.mask_embedding.to(states.dtype), states)
        states = states.masked_fill(~frames[..., None], 0.0)
        if is_wavlm(self.encoder.transformer):
            states = run_wavlm(self.encoder.transformer, states, _MASKED * ~frames)
        else:
            attention = (_MASKED * ~frames[:, None, None, :]).to(states.dtype).expand(-1, 1, num_frames, -1)
            states = self.encoder.transformer(states, attention_mask=attention)
        logits: Tensor = self.linear(states).masked_fill(~frames[..., None], 0.0)
        return logits

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Map numbers of samples to numbers of output frames; 0 for less than one frame (25 ms)."""
        for kernel, stride in self._strides:
            lengths = ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
        return lengths

    def _features(self, samples: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        """Map (B, 1, T) samples to (B, T', C); normalisation over time sees each utterance's own frames only."""
        if self._normalize:
            mask = length_mask(lengths, samples.shape[2], samples.device)[:, None]
            samples = _normalized(samples, mask, 1e-5)
        shortest = sum((kernel - 1) * hop for (kernel, _), hop in zip(self._strides, self._hops(), strict=True)) + 1
        samples = F.pad(samples, (0, max(0, shortest - samples.shape[2])))
        for layer in self.feature_extractor.conv_layers:
            samples = layer.conv(samples)
            lengths = ((lengths - layer.kernel_size).div(layer.stride, rounding_mode="floor") + 1).clamp(min=0)
            if isinstance(layer.layer_norm, nn.GroupNorm):
                mask = length_mask(lengths, samples.shape[2], samples.device)[:, None]
                norm = layer.layer_norm
                samples = _normalized(samples, mask, norm.eps) * norm.weight[:, None] + norm.bias[:, None]
            elif layer.layer_norm is not None:
                samples = layer.layer_norm(samples)
            samples = F.gelu(samples)
        return samples.transpose(1, 2)[:, :num_frames]

    def _hops(self) -> list[int]:
        """Return how many samples lie between two inputs of each convolution."""
        hops = [1]
        for _, stride in self._strides[:-1]:
            hops.append(hops[-1] * stride)
        return hops


def _normalized(values: Tensor, mask: Tensor, eps: float) -> Tensor:
    """Bring each channel of (B, C, T) to mean 0 and variance 1 over the positions of `mask` (B, 1, T)."""
    precise = values.float()
    count = mask.sum(dim=2, keepdim=True).clamp(min=1)
    mean = precise.masked_fill(~mask, 0.0).sum(dim=2, keepdim=True) / count
    centred = (precise - mean).masked_fill(~mask, 0.0)
    variance = centred.square().sum(dim=2, keepdim=True) / count
    return (centred * (variance + eps).rsqrt()).to(values.dtype)
