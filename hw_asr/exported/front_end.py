"""The spectrogram front end as a graph: waveforms (B, N) to features (B, F, T)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.exported.errors import ExportError
from hw_asr.exported.graph import Graph
from hw_asr.features import LOG_OFFSET, FeatureExtractor, FrontEnd
from hw_asr.spectrograms import MFCC, MelSpectrogram, Spectrogram
from hw_asr.spectrograms.mfcc import TOP_DB

Array = NDArray[np.float64]


class Features(NamedTuple):
    """Values in a graph: features (B, F, T) and lengths (B,)."""

    values: str
    lengths: str


def check_front_end(front_end: FrontEnd) -> tuple[FeatureExtractor, Spectrogram]:
    """Return the front end and its Fourier transform; raises ExportError for one that has no graph."""
    kind: object = front_end
    if type(front_end) is FeatureExtractor:
        kind = transform = front_end.spectrogram
        if type(transform) is Spectrogram:
            return front_end, transform
        if type(transform) is MelSpectrogram:
            return front_end, transform.spectrogram
        if type(transform) is MFCC:
            return front_end, transform.MelSpectrogram.spectrogram
    raise ExportError(
        f"preprocessing.spectrogram: {type(kind).__name__} cannot be exported to ONNX; MelSpectrogram, Spectrogram and "
        "MFCC of hw_asr can"
    )


def features(graph: Graph, front_end: FrontEnd, waveform: str, lengths: str) -> Features:
    """Add the features of waveforms (B, N) with int64 lengths (B,), without those of `normalize: "utterance"`.

    Features are zero beyond each length. T is the number of frames of the longest waveform and may be 0.
    """
    extractor, stft = check_front_end(front_end)
    lengths = graph.op("Max", graph.op("Min", lengths, graph.size(waveform, 1)), graph.integer(0))
    frames = _num_frames(graph, extractor, lengths)
    padded = _padded(graph, extractor, waveform, lengths)
    spectrum = graph.cut(_magnitudes(graph, stft, padded), graph.op("ReduceMax", frames, keepdims=1), 2)
    mask = graph.op("Unsqueeze", graph.mask(frames, graph.size(spectrum, 2)), graph.integers(1))
    values = _transformed(graph, extractor, spectrum, mask)
    if extractor.statistics is not None:
        mean = graph.constant(extractor.statistics.mean.numpy()[:, None])
        values = graph.op("Sub", values, mean)
        values = graph.op("Div", values, graph.constant(extractor.statistics.deviation.numpy()[:, None]))
    return Features(graph.op("Where", mask, values, graph.constant(0.0)), frames)


def normalized(graph: Graph, given: Features) -> Features:
    """Scale each feature of an utterance to mean 0 and variance 1 over its frames."""
    mask = graph.float_mask(given.lengths, graph.size(given.values, 2), 1)
    count = graph.op("Cast", graph.op("Max", given.lengths, graph.integer(1)), to=1)
    count = graph.op("Unsqueeze", count, graph.integers(1, 2))
    mean = graph.op("Div", _total(graph, given.values), count)
    centred = graph.op("Mul", graph.op("Sub", given.values, mean), mask)
    variance = graph.op("Div", _total(graph, graph.op("Mul", centred, centred)), count)
    deviation = graph.op("Add", graph.op("Sqrt", variance), graph.constant(LOG_OFFSET))
    return given._replace(values=graph.op("Div", centred, deviation))


def _total(graph: Graph, values: str) -> str:
    return graph.op("ReduceSum", values, graph.integers(2), keepdims=1)


def _num_frames(graph: Graph, extractor: FeatureExtractor, lengths: str) -> str:
    """Add `FeatureExtractor.num_frames`."""
    hop = extractor.hop_length
    reach = graph.op("Add", lengths, graph.integer(2 * extractor.margin - extractor.n_fft + hop))
    # Division of integers rounds towards 0, and what is negative has no frame.
    frames = graph.op("Div", graph.op("Max", reach, graph.integer(0)), graph.integer(hop))
    return graph.op("Where", graph.op("Greater", lengths, graph.integer(0)), frames, graph.integer(0))


def _padded(graph: Graph, extractor: FeatureExtractor, waveform: str, lengths: str) -> str:
    """Add `FeatureExtractor._padded`: each row (N,) extended by the margin at its own ends, at least a frame long."""
    margin = extractor.margin
    mask = graph.mask(lengths, graph.size(waveform, 1))
    samples = graph.op("Where", mask, waveform, graph.constant(0.0))
    missing = graph.op("Sub", graph.integers(extractor.n_fft - margin), graph.size(waveform, 1))
    behind = graph.op("Max", missing, graph.integers(max(margin, 1)))
    pads = graph.op("Concat", graph.integers(0, margin, 0), behind, axis=0)
    padded = graph.op("Pad", samples, pads)
    if margin == 0 or not extractor.mirrors:
        return padded
    edge = np.arange(margin)[None]
    ends = graph.op("Unsqueeze", lengths, graph.integers(1))
    left = graph.op("Add", graph.op("Mul", ends, graph.integer(0)), graph.constant(edge - margin, np.int64))
    position = graph.op("Concat", left, graph.op("Add", ends, graph.constant(edge, np.int64)), axis=1)
    last = graph.op("Max", graph.op("Sub", ends, graph.integer(1)), graph.integer(0))
    period = graph.op("Max", graph.op("Mul", last, graph.integer(2)), graph.integer(1))
    folded = graph.op("Mod", position, period)  # a row shorter than the margin is mirrored back and forth
    folded = graph.op("Min", folded, graph.op("Sub", period, folded), last)
    shift = graph.integer(margin)
    mirrored = graph.op("GatherElements", padded, graph.op("Add", folded, shift), axis=1)
    return graph.op("ScatterElements", padded, graph.op("Add", position, shift), mirrored, axis=1)


def _magnitudes(graph: Graph, stft: Spectrogram, padded: str) -> str:
    """Add the spectrogram (B, bins, T) of rows (B, P): a convolution with windowed cosines and sines."""
    num_bins = stft.n_fft // 2 + 1 if stft.onesided else stft.n_fft
    kernel = graph.constant(_fourier_kernel(stft, num_bins)[:, None])
    row = graph.op("Unsqueeze", padded, graph.integers(1))
    spectrum = graph.op("Conv", row, kernel, strides=[stft.hop_length])
    real, imaginary = graph.ops("Split", [spectrum], 2, axis=1)
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    assert stft.power is not None, "checked by FeatureExtractor"
    if stft.power == 2:
        return power
    magnitudes = graph.op("Sqrt", power)
    return magnitudes if stft.power == 1 else graph.op("Pow", magnitudes, graph.constant(stft.power))


def _fourier_kernel(stft: Spectrogram, num_bins: int) -> Array:
    """Return (2 bins, n_fft): what a frame is multiplied with for the real and the imaginary parts."""
    size = stft.n_fft
    window = np.zeros(size)
    left = (size - stft.win_length) // 2
    window[left : left + stft.win_length] = stft.window.double().numpy()
    if stft.normalized == "frame_length":
        window /= size**0.5
    elif stft.normalized:
        window /= np.sqrt(np.square(window).sum())
    angles = 2 * np.pi / size * (np.outer(np.arange(num_bins), np.arange(size)) % size)
    result: Array = np.concatenate([np.cos(angles), -np.sin(angles)]) * window
    return result


def _transformed(graph: Graph, extractor: FeatureExtractor, spectrum: str, mask: str) -> str:
    """Add what follows the magnitudes: mel bands, cepstra, the logarithm."""
    transform = extractor.spectrogram
    if isinstance(transform, MelSpectrogram):
        spectrum = _bands(graph, transform, spectrum)
    elif isinstance(transform, MFCC):
        bands = _bands(graph, transform.MelSpectrogram, spectrum)
        bands = _logarithm(graph, bands, 1e-6) if transform.log_mels else _decibels(graph, bands, mask)
        return graph.op("MatMul", graph.constant(transform.dct_mat.numpy().T), bands)
    return _logarithm(graph, spectrum, LOG_OFFSET) if extractor.log else spectrum


def _bands(graph: Graph, mel: MelSpectrogram, spectrum: str) -> str:
    return graph.op("MatMul", graph.constant(mel.mel_scale.fb.numpy().T), spectrum)


def _logarithm(graph: Graph, values: str, offset: float) -> str:
    return graph.op("Log", graph.op("Add", values, graph.constant(offset)))


def _decibels(graph: Graph, bands: str, mask: str) -> str:
    """Add decibels that are limited to 80 below the maximum over the row's own frames."""
    values = graph.op("Log", graph.op("Max", bands, graph.constant(1e-10)))
    values = graph.op("Mul", values, graph.constant(10 / np.log(10)))
    own = graph.op("Where", mask, values, graph.constant(-1e30))
    # A row without frames has no maximum; all of it is masked.
    largest = graph.op("Max", graph.op("ReduceMax", own, axes=[1, 2], keepdims=1), graph.constant(-1e30))
    return graph.op("Max", values, graph.op("Sub", largest, graph.constant(TOP_DB)))
