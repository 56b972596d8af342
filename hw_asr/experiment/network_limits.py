"""Limits on the network that a config describes: it is refused before it costs minutes or gigabytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from hw_asr.config import Preprocessing
from hw_asr.experiment import components
from hw_asr.features import FrontEnd

MAX_MODULES = 10_000
"""Submodules of a model; 100 Conformer layers have 3,000."""
MAX_TABLE_ELEMENTS = 1 << 24
"""Elements of the constant tensors of a front end (window, filters), 64 MB; 400 x 64 is usual."""
SMALL_ARGUMENT = 1 << 12
"""Arguments up to here give tables below the limit: the largest have (n_fft // 2 + 1) x n_mels elements."""
MIN_HOP_SECONDS = 0.001


def checked_features(preprocessing: Preprocessing) -> FrontEnd:
    """Build the front end of a config, first without allocating it if its arguments are large.

    Raises ValueError for one that cannot be built, has very large tables, or gives more than a frame per millisecond.
    """
    spec = preprocessing.spectrogram
    if spec.get("module") is None and _largest(spec.get("args", {})) > SMALL_ARGUMENT:
        with torch.device("meta"):
            outline = components.build_features(preprocessing)
        size = sum(table.numel() for table in outline.buffers())
        if size > MAX_TABLE_ELEMENTS:
            raise ValueError(
                f"its filters and window have {size:,} elements, expected at most {MAX_TABLE_ELEMENTS:,}; "
                "lower n_fft or n_mels"
            )
    features = components.build_features(preprocessing)
    if features.n_feats > 1 and features.hop_length < MIN_HOP_SECONDS * preprocessing.sr:
        raise ValueError(
            f"hop_length: {features.hop_length} samples at {preprocessing.sr} Hz are less than a millisecond; "
            f"expected at least {round(MIN_HOP_SECONDS * preprocessing.sr)}, usually 10 ms"
        )
    return features


def _largest(value: object) -> float:
    """Return the largest number among the arguments of a component, the nested ones included."""
    if isinstance(value, dict):
        return max(map(_largest, value.values()), default=0)
    return value if isinstance(value, int | float) else 0


@contextmanager
def limited_modules() -> Iterator[None]:
    """Raise ValueError inside the block when this thread builds more than `MAX_MODULES` submodules."""
    count, thread = 0, threading.get_ident()

    def add(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > MAX_MODULES:
            raise ValueError(f"the model has more than {MAX_MODULES:,} modules; lower its number of layers")

    hook = register_module_module_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()
