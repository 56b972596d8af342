"""The best class of every frame, collapsed: the cheapest decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import check_frames, check_shapes, utterances
from hw_asr.types import Hypothesis, TextEncoder


@DECODERS.register("argmax")
class ArgmaxDecoder:
    """Takes the most probable class of each frame, merges repeats and drops blanks (Graves et al. 2006)."""

    name = "argmax"

    def __init__(self, text_encoder: TextEncoder) -> None:
        self._text_encoder = text_encoder

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Return the one text of each utterance of `log_probs` (B, T, V) with its exact CTC probability."""
        from hw_asr.decoders.ctc_forward import labelling_log_likelihood  # compiles; `texts` does not need it

        labellings = self._labellings(log_probs, lengths)
        frames = utterances(log_probs, lengths, len(self._text_encoder.alphabet))
        # Not ctc_loss, whose table of frames by characters takes 30 GB for an hour of speech.
        values = [labelling_log_likelihood(*pair) for pair in zip(frames, labellings, strict=True)]
        return [
            [Hypothesis(self._text_encoder.decode(labels), value, value)]
            for labels, value in zip(labellings, values, strict=True)
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
