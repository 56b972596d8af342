"""Fuzz target: manifests, from the file to utterances."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hw_asr.datasets.manifest import parse_entries
from hw_asr.datasets.manifest_file import read_manifest
from hw_asr.errors import UserError
from hw_asr.tests.fuzz.engine import Target

_SEEDS = (
    b'{"path": "a.wav", "text": "turn on", "duration": 1.5, "id": "1", "speaker": "x"}\n{"path": "b.wav"}\n',
    b'[{"audio_filepath": "a.wav", "transcription": "a"}, {"path": 5}, 7, null]',
    b"path,text,duration\na.wav,hello,1.0\nb.wav,,\n",
    '{"path": "\u00e9.wav", "text": "\u202e\\ud800"}'.encode(),
)


def _parse(path: Path) -> None:
    for suffix in (".jsonl", ".csv", ".tsv"):
        manifest = path.with_suffix(suffix)
        manifest.write_bytes(path.read_bytes())
        with suppress(UserError):
            parse_entries(read_manifest(manifest), path.parent, "fuzz")


TARGET = Target(
    seeds=lambda: _SEEDS,
    parse=_parse,
    suffix=".json",
    tokens=(b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b"NaN", b"1e999", b"-1", b"9" * 5000, b"\xef\xbb\xbf",
            b"\x00", b"\n", b"\r", b",", b"\t", b"[" * 3000, b'"path":', b'"duration":', b"null"),
)  # fmt: skip
