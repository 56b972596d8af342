"""The acoustic side of recognition: samples to log-probabilities. What a `Recogniser` needs of a model, and torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats
from hw_asr.recognition.long_audio import BLOCK_SECONDS, OVERLAP_SECONDS, BlockFrontEnd, feature_blocks, stitched
from hw_asr.types import LogProbs, TextEncoder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hw_asr.experiment.network import Network


class WaveformModel(Protocol):
    """Maps samples to log-probabilities. Its methods may be called from several threads at once."""

    sample_rate: int
    """Hz."""
    seconds_per_frame: float
    """Time between two frames of the log-probabilities."""
    text_encoder: TextEncoder
    is_causal: bool
    """Whether it needs no later audio but a fixed look-ahead. Recordings are then recognised as live audio is."""
    live_obstacle: str | None
    """Why the model cannot recognise live audio, and what to do; None if it can."""

    def batch(self, recordings: Sequence[Samples]) -> list[LogProbs]:
        """Return the log-probabilities of each recording (N,); the batch a recording is in makes no difference."""

    def long(
        self, recording: Samples | Integers, chunk_seconds: float, speech: NDArray[np.bool_] | None
    ) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording (N,) in blocks of consecutive frames.

        The network gets at most `chunk_seconds` of audio at a time. `speech` is the result of `speech_steps`: features
        that are normalised over the recording are normalised over its speech.
        """

    def live(self) -> LiveModel:
        """Return the model for a recording that arrives in pieces; only if there is no `live_obstacle`."""


class LiveModel(Protocol):
    """Computes the log-probabilities of one recording while it arrives."""

    look_ahead_seconds: float
    """How much audio after the beginning of a frame is needed to compute it."""

    def push(self, samples: Samples, is_last: bool = False) -> LogProbs:
        """Return the log-probabilities (t, V) of the frames that are known after these samples (N,).

        With `is_last`, the recording ends after these samples. All frames together are those of the whole recording.
        """


class BlockModel(NamedTuple):
    """The parts of a model from which long recordings are computed piece by piece."""

    front_end: BlockFrontEnd
    log_probs: Callable[[NDArray[np.float32]], LogProbs]
    """Maps features (F, t) to log-probabilities (T, V)."""
    stride: int
    """Feature frames for one frame of the log-probabilities."""
    sample_rate: int

    def blocks(
        self, recording: Samples | Integers, chunk_seconds: float, speech: NDArray[np.bool_] | None
    ) -> Iterator[LogProbs]:
        """Do what `WaveformModel.long` describes; overlapping chunks are joined where both are silent."""
        from hw_asr.recognition.speech_activity import frames_with_speech

        hop_seconds = self.front_end.hop_length / self.sample_rate

        def has_speech(first: int, num_frames: int) -> NDArray[np.bool_]:
            assert speech is not None
            return frames_with_speech(speech, first, num_frames, hop_seconds)

        def steps(seconds: float) -> int:
            """Return the feature frames of some seconds of audio, a multiple of the stride and at least one stride."""
            return max(1, round(seconds / (hop_seconds * self.stride))) * self.stride

        counts = has_speech if speech is not None and speech.any() else None
        features = feature_blocks(recording, self.front_end, BLOCK_SECONDS * self.sample_rate, counts)
        overlap = steps(OVERLAP_SECONDS)
        chunk = max(steps(chunk_seconds), 2 * overlap + self.stride)  # rounding may leave less
        yield from stitched(features, self.log_probs, self.stride, chunk, overlap)


class TorchWaveformModel:
    """A front end and a network of torch, on one device."""

    def __init__(self, network: Network, sample_rate: int, device: torch.device) -> None:
        from hw_asr.streaming.network import obstacle

        network.model.eval()
        self._network, self._device = network, device
        self.live_obstacle = obstacle(network.front_end, network.model)
        self.is_causal = self.live_obstacle is None
        self.sample_rate = sample_rate
        self.text_encoder = network.text_encoder
        self._stride = frame_stride(network.model)
        self.seconds_per_frame = self._stride * network.front_end.hop_length / sample_rate
        # The normalisation over a recording is computed from all its blocks.
        self._block_front_end = copy.copy(network.front_end)
        if network.front_end.normalize == "utterance":
            self._block_front_end.normalize = "none"

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
        """Yield the log-probabilities of a long recording in blocks; a causal network carries its state on."""
        if not self.is_causal:
            extractor = self._network.front_end
            front_end = BlockFrontEnd(
                self._block_features, extractor.n_fft, extractor.hop_length, extractor.normalize == "utterance"
            )
            blocks = BlockModel(front_end, self._block_log_probs, self._stride, self.sample_rate)
            yield from blocks.blocks(recording, chunk_seconds, speech)
            return
        live, size = self.live(), BLOCK_SECONDS * self.sample_rate
        for start in range(0, len(recording), size):
            yield live.push(as_floats(recording[start : start + size]), start + size >= len(recording))

    def live(self) -> LiveModel:
        """Return the network for a recording that arrives in pieces."""
        from hw_asr.streaming.network import NetworkStream, Streamable

        network = Streamable.of(self._network.front_end, self._network.model)
        return NetworkStream(network, self.sample_rate, self._device)

    def _block_features(self, samples: Samples) -> NDArray[np.float32]:
        import torch

        window = torch.from_numpy(np.ascontiguousarray(samples)).to(self._device)
        with torch.inference_mode():
            features, _ = self._block_front_end(window[None], torch.tensor([len(window)]))
            result: NDArray[np.float32] = features[0].cpu().numpy()
        return result

    def _block_log_probs(self, features: NDArray[np.float32]) -> LogProbs:
        import torch

        from hw_asr.models.forward import run_model

        rows = torch.from_numpy(np.ascontiguousarray(features))[None].to(self._device)
        with torch.inference_mode():  # else every chunk keeps what the network computed for it
            log_probs, _ = run_model(self._network.model, rows, torch.tensor([rows.shape[2]]), "fp32")
            result: LogProbs = log_probs[0].cpu().numpy()
        return result


def frame_stride(model: nn.Module) -> int:
    """Return the feature frames for one frame of a network's log-probabilities."""
    import torch

    steps = 1_000_000  # many, since convolutions without padding lose some at the ends
    frames = model.transform_input_lengths(torch.tensor([steps]))  # type: ignore[operator]
    return round(steps / float(frames))
