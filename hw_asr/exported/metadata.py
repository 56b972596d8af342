"""What an exported model says about itself: the entries of the file's `metadata_props`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hw_asr.exported.errors import ExportedModelError

FORMAT = "1"
MAX_SIZE = 1 << 20
"""Of sample rates, windows and features."""
WAVEFORM, LENGTHS, FEATURES = "waveform", "lengths", "features"
"""Inputs. `features` (B, F, T) is optional: frames that follow those of the waveform."""
LOG_PROBS, LOG_PROB_LENGTHS, COMPUTED_FEATURES = "log_probs", "log_prob_lengths", "computed_features"
"""Outputs. `computed_features` (B, F, T) are those of the waveform, before the normalisation over an utterance."""


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_SIZE


def _is_alphabet(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


_FITS: dict[str, Callable[[object], bool]] = {
    "alphabet": _is_alphabet,
    "normalizes": lambda value: isinstance(value, bool),
    "causal": lambda value: isinstance(value, bool),
    "config": lambda value: isinstance(value, dict),
}
"""What the entries are; the others are sizes."""


class Metadata(NamedTuple):
    """Everything besides the graph."""

    alphabet: list[str]
    """One string per class; the first is the blank."""
    sample_rate: int
    """Hz."""
    n_feats: int
    n_fft: int
    """Samples that a frame of features sees."""
    hop_length: int
    """Samples between two frames of features."""
    stride: int
    """Frames of features for one frame of log-probabilities."""
    normalizes: bool
    """Whether features are normalised over each utterance."""
    causal: bool
    """Whether log-probabilities need no later audio but a fixed look-ahead; see `WaveformModel.is_causal`."""
    config: dict[str, Any]
    """The config, without training sections and data."""

    @property
    def seconds_per_frame(self) -> float:
        """Time between two frames of log-probabilities."""
        return self.stride * self.hop_length / self.sample_rate

    def to_props(self) -> dict[str, str]:
        """Return the entries; besides those that are read back, `frame_rate` in Hz for other programs."""
        values = {name: json.dumps(value, ensure_ascii=False) for name, value in self._asdict().items()}
        return {"hw_asr": FORMAT, **values, "frame_rate": json.dumps(1 / self.seconds_per_frame)}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Metadata:
        """Read the entries of a file; raises ExportedModelError for those of another program."""
        if props.get("hw_asr") != FORMAT:
            raise ExportedModelError("not an exported model of this version of hw_asr; make one with scripts/export.py")
        values = {}
        for name in cls._fields:
            try:
                values[name] = json.loads(props[name])
            except (KeyError, ValueError, RecursionError) as error:
                raise ExportedModelError(f"its metadata has no valid {name!r}") from error
            if not _FITS.get(name, _is_size)(values[name]):
                raise ExportedModelError(f"its metadata has an invalid {name!r}: {str(values[name])[:60]}")
        return cls(**values)
