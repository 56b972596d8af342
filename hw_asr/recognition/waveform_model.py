"""The acoustic side of recognition: samples to log-probabilities. What a `Recogniser` needs of a model, and torch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples
from hw_asr.types import TextEncoder

if TYPE_CHECKING:
    import torch

    from hw_asr.experiment.network import Network

LogProbs = NDArray[np.float32]
"""(T, V), natural logarithms; class 0 is the blank."""


class WaveformModel(Protocol):
    """Maps samples to log-probabilities. Its methods may be called from several threads at once."""

    sample_rate: int
    """Hz."""
    seconds_per_frame: float
    """Time between two frames of the log-probabilities."""
    text_encoder: TextEncoder

    def batch(self, recordings: Sequence[Samples]) -> list[LogProbs]:
        """Return the log-probabilities of each recording (N,); the batch a recording is in makes no difference."""

    def long(
        self, recording: Samples | Integers, chunk_seconds: float, speech: NDArray[np.bool_] | None
    ) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording (N,) in blocks of consecutive frames.

        The network gets at most `chunk_seconds` of audio at a time. `speech` is the result of `speech_steps`: features
        that are normalised over the recording are normalised over its speech.
        """


class TorchWaveformModel:
    """A front end and a network of torch, on one device."""

    def __init__(self, network: Network, sample_rate: int, device: torch.device) -> None:
        import torch

        network.model.eval()
        self._network, self._device = network, device
        self.sample_rate = sample_rate
        self.text_encoder = network.text_encoder
        steps = 1_000_000  # many, since convolutions without padding lose some at the ends
        frames = network.model.transform_input_lengths(torch.tensor([steps]))  # type: ignore[operator]
        self._stride = round(steps / float(frames))
        self.seconds_per_frame = self._stride * network.front_end.hop_length / sample_rate

    def batch(self, recordings: Sequence[Samples]) -> list[LogProbs]:
        """Return the log-probabilities of each recording, computed as one padded batch."""
        import torch

        from hw_asr.models.forward import run_model

        samples = [torch.from_numpy(np.ascontiguousarray(recording, np.float32)) for recording in recordings]
        lengths = torch.tensor([len(row) for row in samples])
        with torch.inference_mode():
            padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True).to(self._device)
            features, frames = self._network.front_end(padded, lengths)
            log_probs, out_lengths = run_model(self._network.model, features, frames, "fp32")
            rows = log_probs.cpu().numpy()
        return [row[:length] for row, length in zip(rows, out_lengths.tolist(), strict=True)]

    def long(
        self, recording: Samples | Integers, chunk_seconds: float, speech: NDArray[np.bool_] | None
    ) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording; overlapping chunks are joined where both are silent."""
        import torch

        from hw_asr.models.forward import run_model
        from hw_asr.recognition.long_audio import BLOCK_SECONDS, OVERLAP_SECONDS, feature_blocks, stitched
        from hw_asr.recognition.speech_activity import frames_with_speech

        def log_probs_of(features: torch.Tensor) -> torch.Tensor:
            lengths = torch.tensor([features.shape[2]])
            with torch.inference_mode():  # else every chunk keeps what the network computed for it
                return run_model(self._network.model, features.to(self._device), lengths, "fp32")[0][0]

        def has_speech(first: int, num_frames: int) -> torch.Tensor:
            assert speech is not None
            hop = self.seconds_per_frame / self._stride
            return torch.from_numpy(frames_with_speech(speech, first, num_frames, hop))

        samples = torch.from_numpy(np.ascontiguousarray(recording))
        counts = has_speech if speech is not None and speech.any() else None
        block = BLOCK_SECONDS * self.sample_rate
        features = feature_blocks(samples, self._network.front_end, block, self._device, counts)
        chunk, overlap = (self._steps(seconds) for seconds in (chunk_seconds, OVERLAP_SECONDS))
        for log_probs in stitched(features, log_probs_of, self._stride, chunk, overlap):
            yield log_probs.numpy()

    def _steps(self, seconds: float) -> int:
        """Return the feature frames of some seconds of audio, a multiple of the stride and at least one stride."""
        return max(1, round(seconds / self.seconds_per_frame)) * self._stride
