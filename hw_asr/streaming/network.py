"""A DeepSpeech 2 that runs in one direction, piece by piece: every layer keeps the part of the past that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.datasets.recording import Samples
from hw_asr.features import FeatureExtractor, FrontEnd
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.gru import FrameGRU
from hw_asr.streaming.windows import Windows
from hw_asr.types import LogProbs


class Streamable(NamedTuple):
    """A front end and a model that `obstacle` has nothing against."""

    front_end: FeatureExtractor
    model: DeepSpeech2

    @classmethod
    def of(cls, front_end: FrontEnd, model: nn.Module) -> Streamable:
        """Return the two with their types."""
        assert isinstance(front_end, FeatureExtractor)
        assert isinstance(model, DeepSpeech2)
        return cls(front_end, model)

    @property
    def look_ahead(self) -> int:
        """How many samples after the beginning of a frame of the output are needed to compute it."""
        model, front_end = self.model, self.front_end
        frames = 0 if model.lookahead is None else int(model.lookahead.conv.kernel_size[0]) - 1
        for convolution in reversed(_convolutions(model)):
            frames = frames * int(convolution.stride[1]) + int(convolution.kernel_size[1]) // 2
        of_frame = front_end.n_fft - front_end.margin
        first = front_end.margin + 1 if front_end.mirrors and front_end.margin else 0  # the image of the first samples
        return max(frames * front_end.hop_length + of_frame, first)


def obstacle(front_end: FrontEnd, model: nn.Module) -> str | None:
    """Return why a network cannot recognise live audio, and what to do; None if it can."""
    if not isinstance(model, DeepSpeech2):
        return (
            f"{type(model).__name__} needs the whole recording; train a DeepSpeech2 with "
            'gru_config.bidirectional false and preprocessing.normalize "global", such as '
            "hw_asr/configs/demo_streaming.json"
        )
    if any(layer.bidirectional for layer in _recurrences(model)):
        return (
            "the network is bidirectional: it reads a recording from its end, too; train one with "
            "gru_config.bidirectional false, and lookahead_config for some context after each frame"
        )
    if front_end.normalize == "utterance":
        return (
            'preprocessing.normalize "utterance" needs the whole recording; train a network with '
            'preprocessing.normalize "global"'
        )
    if not isinstance(front_end, FeatureExtractor) or not front_end.is_local:
        name = type(getattr(front_end, "spectrogram", front_end)).__name__
        return f"the features of {name} depend on the whole recording; train a network with MelSpectrogram"
    return None


def look_ahead_seconds(front_end: FrontEnd, model: nn.Module, sample_rate: int) -> float | None:
    """Return how much audio after a sound a network needs for its character; None if it needs the whole recording."""
    if obstacle(front_end, model) is not None:
        return None
    return Streamable.of(front_end, model).look_ahead / sample_rate


class NetworkStream:
    """Maps samples to log-probabilities piece by piece; together they are those of the whole recording.

    Its memory does not grow with the recording.
    """

    def __init__(self, network: Streamable, sample_rate: int, device: torch.device) -> None:
        self.look_ahead_seconds = network.look_ahead / sample_rate
        """How much audio after the beginning of a frame is needed to compute it."""
        self._features, self._device = FeatureStream(network.front_end, device), device
        model = network.model
        self._convolutions = [
            _Convolution(convolve, nn.Sequential(normalize, activate))
            for convolve, normalize, activate in zip(*[iter(model.cnn_block.block)] * 3, strict=True)
        ]
        recurrent = model.gru_block
        self._layers = list(zip(recurrent.rnn_layers, recurrent.bn_layers, strict=True))
        self._states: list[Tensor | None] = [None] * len(self._layers)
        self._model = model
        ahead = 0 if model.lookahead is None else int(model.lookahead.conv.kernel_size[0]) - 1
        self._ahead = Windows(ahead + 1, after=ahead)

    @torch.inference_mode()
    def push(self, samples: Samples, is_last: bool = False) -> LogProbs:
        """Return the log-probabilities (t, V) of the frames that are known after these samples (N,), float32.

        With `is_last`, the recording ends after these samples.
        """
        features = self._features.push(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), is_last)
        image: Tensor = features[None, None]
        for layer in self._convolutions:
            image = layer.push(image, is_last)
        rows = self._recur(image[0].permute(2, 0, 1).flatten(1))
        if self._model.lookahead is not None:
            windows = self._ahead.push(rows.t()[None], is_last)
            rows = rows[:0] if windows is None else self._model.lookahead.conv(windows)[0].t()
        log_probs: LogProbs = self._model.linear(rows).float().log_softmax(dim=-1).cpu().numpy()
        return log_probs

    def _recur(self, rows: Tensor) -> Tensor:
        for index, (layer, normalize) in enumerate(self._layers):
            if len(rows):
                rows, state = nn.GRU.forward(layer, rows[:, None], self._states[index])
                rows, self._states[index] = rows[:, 0], state
            else:
                rows = rows.new_zeros(0, self._model.gru_block.layer_sizes[index])
            rows = self._model.intermediate(index + 1, normalize(rows), None)
        return rows


class FeatureStream:
    """The front end piece by piece."""

    def __init__(self, front_end: FeatureExtractor, device: torch.device) -> None:
        self._front_end, self._device = front_end, device
        self._windows = Windows(front_end.n_fft, front_end.hop_length)
        self._begins = True
        self._edge = torch.zeros(0, device=device)  # all samples so far, then the last ones, which may be mirrored

    def push(self, samples: Tensor, is_last: bool) -> Tensor:
        """Map samples (N,) to the features (F, t) of the frames that are known now."""
        front_end, margin = self._front_end, self._front_end.margin
        samples = samples.to(self._device)
        self._edge = torch.cat([self._edge, samples])
        if self._begins:
            if len(self._edge) <= margin:
                if is_last:
                    features: Tensor = front_end(self._edge[None], torch.tensor([len(self._edge)]))[0]
                    return features[0, :, : int(front_end.num_frames(torch.tensor(len(self._edge))))]
                return self._edge.new_zeros(front_end.n_feats, 0)
            self._begins = False
            samples = torch.cat([self._image(self._edge[1 : margin + 1]), self._edge])
        if is_last:
            samples = torch.cat([samples, self._image(self._edge[len(self._edge) - margin - 1 : -1])])
        self._edge = self._edge[max(0, len(self._edge) - margin - 1) :].clone()
        covered = self._windows.push(samples)
        return self._edge.new_zeros(front_end.n_feats, 0) if covered is None else front_end.frames(covered)

    def _image(self, edge: Tensor) -> Tensor:
        return edge.flip(0) if self._front_end.mirrors else torch.zeros_like(edge)


class _Convolution:
    """A convolution over (frequency, time) piece by piece, with what follows it."""

    def __init__(self, convolve: nn.Conv2d, then: nn.Module) -> None:
        self._convolve, self._then = convolve, then
        size, step, margin = int(convolve.kernel_size[1]), int(convolve.stride[1]), int(convolve.padding[1])
        self._windows = Windows(size, step, margin, margin)

    def push(self, image: Tensor, is_last: bool) -> Tensor:
        """Map (1, C, F, t) to (1, C', F', t')."""
        layer = self._convolve
        covered = self._windows.push(image, is_last)
        if covered is None:
            bins = -(-image.shape[2] // int(layer.stride[0]))
            return image.new_zeros(1, layer.out_channels, bins, 0)
        result = F.conv2d(covered, layer.weight, layer.bias, layer.stride, (int(layer.padding[0]), 0))
        rows: Tensor = self._then(result[0].permute(2, 0, 1))
        return rows.permute(1, 2, 0)[None]


def _convolutions(model: DeepSpeech2) -> list[nn.Conv2d]:
    return [module for module in model.cnn_block.block if isinstance(module, nn.Conv2d)]


def _recurrences(model: DeepSpeech2) -> Iterable[FrameGRU]:
    return [module for module in model.modules() if isinstance(module, FrameGRU)]
