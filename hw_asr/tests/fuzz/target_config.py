"""Fuzz target: configs, from the file over overrides to validation, and the list of their effects."""

from __future__ import annotations

import json
from pathlib import Path

from hw_asr.config import override, read_json
from hw_asr.experiment.config_effects import effects
from hw_asr.experiment.validation import validate
from hw_asr.tests.fuzz.engine import Target
from hw_asr.tests.training_case import make_config


def _parse(path: Path) -> None:
    raw = override(read_json(path), ["trainer.epochs=1"])
    effects(raw)
    validate(raw, training=False)


TARGET = Target(
    seeds=lambda: [json.dumps(make_config(Path("data")), indent=indent).encode() for indent in (None, 1)],
    parse=_parse,
    suffix=".json",
    tokens=(b"{", b"}", b"[", b"]", b'"', b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"9" * 5000, b"[" * 3000,
            b'"type":', b'"args":', b'"module": 5,', b"\\ud800", b"\\u0000", b"{}", b"[[]]", b"1.5"),
)  # fmt: skip
