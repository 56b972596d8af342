"""The best class of every frame, collapsed: the cheapest decoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import as_array, check_frames, check_shapes, utterances
from hw_asr.types import Hypothesis, TensorOrArray, TextEncoder


@DECODERS.register("argmax")
class ArgmaxDecoder:
    """Takes the most probable class of each frame, merges repeats and drops blanks (Graves et al. 2006)."""

    name = "argmax"
    takes_arrays = True

    def __init__(self, text_encoder: TextEncoder) -> None:
        self._text_encoder = text_encoder

    def __call__(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[list[Hypothesis]]:
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

    def texts(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[str]:
        """Return the texts alone; the probabilities are what takes the time."""
        return [self._text_encoder.decode(labels) for labels in self._labellings(log_probs, lengths)]

    def _labellings(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[list[int]]:
        check_shapes(log_probs, lengths, len(self._text_encoder.alphabet))
        if 0 in log_probs.shape:
            return [[] for _ in log_probs]
        peaks, path = _best_path(log_probs)
        changed = np.ones(path.shape, bool)
        changed[:, 1:] = path[:, 1:] != path[:, :-1]
        emitted = changed & (path != 0)
        result = []
        for index, length in enumerate(lengths.tolist()):
            if length:
                check_frames(index, peaks[index, :length])
            result.append(path[index, :length][emitted[index, :length]].tolist())
        return result


def _best_path(log_probs: TensorOrArray) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return the largest value and its class (B, T) of each frame."""
    if isinstance(log_probs, np.ndarray):
        return log_probs.max(axis=2), log_probs.argmax(axis=2)
    peaks, path = log_probs.detach().max(dim=2)  # on its device, so that only the results are copied
    return as_array(peaks), as_array(path)
