"""Recognition with an exported model: onnxruntime on the CPU, no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples
from hw_asr.exported.checks import read_checked
from hw_asr.exported.errors import ExportedModelError
from hw_asr.exported.metadata import (
    COMPUTED_FEATURES,
    FEATURES,
    LENGTHS,
    LOG_PROB_LENGTHS,
    LOG_PROBS,
    WAVEFORM,
    Metadata,
)
from hw_asr.recognition.long_audio import BlockFrontEnd
from hw_asr.recognition.waveform_model import BlockModel, LiveModel
from hw_asr.runtime.cores import available_cores
from hw_asr.runtime.memory import MemoryExhaustedError
from hw_asr.runtime.optional import optional_import
from hw_asr.types import LogProbs, TextEncoder

Inputs = Mapping[str, NDArray[Any]]
Shape = tuple[int | range | None, ...]
"""Sizes that are allowed; None: any."""


class Exported(NamedTuple):
    """An exported model that was read and checked."""

    path: Path
    content: bytes
    metadata: Metadata


def read_exported(path: Path) -> Exported:
    """Read a file of `scripts/export.py`; raises ExportedModelError, one line with the path."""
    checked = read_checked(path)
    try:
        return Exported(path, checked.content, Metadata.from_props(checked.props))
    except ExportedModelError as error:
        raise ExportedModelError(f"{path}: {error}") from error


class OnnxWaveformModel:
    """An exported model on the CPU; see `recognition.waveform_model.WaveformModel`.

    OMP_NUM_THREADS threads compute one call, or `num_threads` where that is not set; None stands for all cores.

    Raises ExportedModelError for a model that onnxruntime cannot load, MissingPackageError without onnxruntime.
    """

    def __init__(self, exported: Exported, text_encoder: TextEncoder, num_threads: int | None = None) -> None:
        self._path = exported.path
        self._session, self._only_needed = _session(exported, num_threads)
        metadata = self._metadata = exported.metadata
        self.sample_rate, self.seconds_per_frame = metadata.sample_rate, metadata.seconds_per_frame
        self.text_encoder = text_encoder
        self.is_causal = metadata.causal
        self.live_obstacle: str | None = (
            "an exported model reads whole recordings; use the checkpoint from which it was exported"
        )

    def batch(self, recordings: Sequence[Samples]) -> list[LogProbs]:
        """Return the log-probabilities of each recording, computed as one padded batch."""
        lengths = np.array([len(samples) for samples in recordings], np.int64)
        waveform = np.zeros((len(recordings), int(lengths.max(initial=0))), np.float32)
        for row, samples in zip(waveform, recordings, strict=True):
            row[: len(samples)] = samples
        log_probs, counts = self._run([LOG_PROBS, LOG_PROB_LENGTHS], {WAVEFORM: waveform, LENGTHS: lengths})
        self._check(log_probs, (len(recordings), None, len(self._metadata.alphabet)))
        self._check(counts, (len(recordings),), np.int64)
        if not 0 <= counts.min(initial=0) <= counts.max(initial=0) <= log_probs.shape[1]:
            raise ExportedModelError(
                f"{self._path}: its graph returns {counts.tolist()} of {log_probs.shape[1]} frames"
            )
        return [row[:count] for row, count in zip(log_probs, counts.tolist(), strict=True)]

    def long(
        self, recording: Samples | Integers, chunk_seconds: float, speech: NDArray[np.bool_] | None
    ) -> Iterator[LogProbs]:
        """Yield the log-probabilities of a long recording in blocks."""
        metadata = self._metadata
        front_end = BlockFrontEnd(self._features, metadata.n_fft, metadata.hop_length, metadata.normalizes)
        blocks = BlockModel(front_end, self._log_probs, metadata.stride, metadata.sample_rate)
        return blocks.blocks(recording, chunk_seconds, speech)

    def live(self) -> LiveModel:
        """Not supported; see `live_obstacle`."""
        raise ExportedModelError(f"{self._path}: {self.live_obstacle}")

    def _features(self, samples: Samples) -> NDArray[np.float32]:
        """Return the features (F, T) of samples (N,), at least one frame."""
        inputs: Inputs = {WAVEFORM: samples[None], LENGTHS: np.array([len(samples)], np.int64)}
        (features,) = self._run([COMPUTED_FEATURES], inputs)
        hop, fft = self._metadata.hop_length, self._metadata.n_fft
        num_frames = range(max(0, (len(samples) - fft) // hop + 1), len(samples) // hop + 2)  # centred or not
        self._check(features, (1, self._metadata.n_feats, num_frames))
        rows: NDArray[np.float32] = features[0]
        return rows if rows.shape[1] else np.zeros((len(rows), 1), np.float32)

    def _log_probs(self, features: NDArray[np.float32]) -> LogProbs:
        inputs: Inputs = {
            WAVEFORM: np.zeros((1, 0), np.float32),
            LENGTHS: np.zeros(1, np.int64),
            FEATURES: np.ascontiguousarray(features)[None],
        }
        (log_probs,) = self._run([LOG_PROBS], inputs)
        num_frames = -(-features.shape[1] // self._metadata.stride)
        self._check(log_probs, (1, num_frames, len(self._metadata.alphabet)))
        result: LogProbs = log_probs[0]
        return result

    def _run(self, outputs: list[str], inputs: Inputs) -> list[NDArray[Any]]:
        try:
            results: list[NDArray[Any]] = self._session.run(outputs, dict(inputs), self._only_needed)
        except Exception as error:  # onnxruntime's exceptions have no common base but this one
            raise _explained(self._path, error) from error
        return results

    def _check(self, values: NDArray[Any], shape: Shape, dtype: type[np.generic] = np.float32) -> None:
        """Raise ExportedModelError if a graph returns something else than its metadata promises."""
        fits = values.ndim == len(shape) and all(
            expected is None or (size in expected if isinstance(expected, range) else size == expected)
            for expected, size in zip(shape, values.shape, strict=True)
        )
        if not fits or values.dtype != dtype:
            raise ExportedModelError(f"{self._path}: its graph returns {values.dtype} of shape {values.shape}")


def _session(exported: Exported, num_threads: int | None) -> tuple[Any, Any]:
    """Return a session and options by which a call computes only the outputs that are asked for."""
    with optional_import("an exported model", "onnxruntime", "onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _num_threads(num_threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an exception, too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    run_options = onnxruntime.RunOptions()
    run_options.only_execute_path_to_fetches = True
    run_options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            exported.content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise _explained(exported.path, error) from error
    return session, run_options


def _num_threads(default: int | None) -> int:
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(given) if given.isdecimal() and int(given) > 0 else default or available_cores()


def _explained(path: Path, error: Exception) -> ExportedModelError | MemoryExhaustedError:
    reason = " ".join(str(error)[:200].split()) or type(error).__name__
    if isinstance(error, MemoryError) or "alloc" in reason:
        return MemoryExhaustedError(f"out of memory: {reason}; use a smaller batch or shorter pieces")
    return ExportedModelError(f"{path}: onnxruntime cannot run it: {reason}")
