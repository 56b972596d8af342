"""Whether the content of a file is audio or video at all, whatever its name is."""

from __future__ import annotations

from pathlib import Path

from hw_asr.datasets.audio_file import open_recording
from hw_asr.datasets.recording import AudioError

_HEAD_BYTES = 64
_SIGNATURES = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"NIST_1A", b"Creative Voice File"),
    *(b"fLaC", b"OggS", b"ID3", b"#!AMR", b"wvpk", b"TTA1", b"MAC ", b"MPCK", b"MP+", b"tBaK", b"ajkg", b"DSD "),
    *(b"\x1aE\xdf\xa3", b"0&\xb2u", b"FLV", b".RMF", b".ra\xfd", b"\x06\x0e+4", b"ea3", b"EA3", b"\x7f\xfe\x80\x01"),
    *(b"\0\0\1\xba", b"\0\0\1\xb3", b"\x0bw"),
    *(bytes([0xFF, byte]) for byte in (0xE2, 0xE3, 0xF0, 0xF1, 0xF2, 0xF3, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD)),
)
"""First bytes of the formats that are read; the last line holds frames of MP2, MP3 and AAC."""
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Types of the first box, which follow its size."""


def is_media(path: Path) -> bool:
    """Whether a file is audio or video, complete or not: by its first bytes, or because FFmpeg opens it.

    Empty files and files that begin with zeros count too, because an interrupted copy leaves them; so do files that
    cannot be opened. Texts, HTML pages and images do not.
    """
    try:
        file = open_recording(path)
    except AudioError:
        return True
    with file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(_SIGNATURES) or head[4:8] in _MP4_BOXES or not head.strip(b"\0"):
            return True
        try:
            from hw_asr.datasets.audio_containers import can_open
        except ImportError:  # installations for export may lack PyAV
            return True
        return can_open(file)
