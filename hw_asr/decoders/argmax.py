"""The best class of every frame, collapsed: the cheapest decoder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from hw_asr.decoders.base import check_frames, check_shapes
from hw_asr.registry import DECODERS
from hw_asr.types import Hypothesis, TextEncoder


@DECODERS.register("argmax")
class ArgmaxDecoder:
    """Takes the most probable class of each frame, merges repeats and drops blanks (Graves et al. 2006)."""

    name = "argmax"

    def __init__(self, text_encoder: TextEncoder) -> None:
        self._text_encoder = text_encoder

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Return the one text of each utterance of `log_probs` (B, T, V) with its exact CTC probability."""
        labellings = self._labellings(log_probs, lengths)
        log_likelihoods = _log_likelihoods(log_probs, lengths, labellings)
        return [
            [Hypothesis(self._text_encoder.decode(labels), value, value)]
            for labels, value in zip(labellings, log_likelihoods, strict=True)
        ]

    def texts(self, log_probs: Tensor, lengths: Tensor) -> list[str]:
        """Return the texts alone; the probabilities are what takes the time."""
        return [self._text_encoder.decode(labels) for labels in self._labellings(log_probs, lengths)]

    def _labellings(self, log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        check_shapes(log_probs, lengths, len(self._text_encoder.alphabet))
        if log_probs.numel() == 0:
            return [[] for _ in log_probs]
        peaks, path = (values.cpu() for values in log_probs.detach().max(dim=2))
        changed = torch.ones_like(path, dtype=torch.bool)
        changed[:, 1:] = path[:, 1:] != path[:, :-1]
        emitted = changed & (path != 0)
        result = []
        for index, length in enumerate(lengths.tolist()):
            if length:
                check_frames(index, peaks[index, :length].double().numpy())
            result.append(path[index, :length][emitted[index, :length]].tolist())
        return result


def _log_likelihoods(log_probs: Tensor, lengths: Tensor, labellings: list[list[int]]) -> list[float]:
    """Return the CTC log-probability of one labelling per utterance; that of nothing in no frames is 0."""
    if log_probs.numel() == 0:
        return [0.0] * len(labellings)
    device = log_probs.device
    losses = ctc_loss(
        log_probs.detach().transpose(0, 1).double(),
        torch.tensor([label for labels in labellings for label in labels], dtype=torch.long, device=device),
        lengths.to(device).clamp(min=1),
        torch.tensor([len(labels) for labels in labellings], dtype=torch.long, device=device),
        reduction="none",
    )
    return [-loss if length else 0.0 for loss, length in zip(losses.tolist(), lengths.tolist(), strict=True)]
