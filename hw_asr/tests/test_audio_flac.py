"""FLAC files that were cut without encoding them again, that are damaged, or that are made to take long."""

import unittest
from pathlib import Path
from unittest import mock

import av
import numpy as np
import soundfile

from hw_asr.datasets import audio_checksums, audio_flac
from hw_asr.datasets.audio import duration, read_audio, read_recording
from hw_asr.datasets.audio_flac import _FRAME_BEGINS, _parse_frame
from hw_asr.datasets.recording import Damage, Piece
from hw_asr.tests.media import RATE
from hw_asr.tests.test_audio_damage import NOISE, DamageCase

FRAME = 4096
"""Samples in a frame as libsndfile writes it."""


def begins(data: bytes) -> list[int]:
    """Return where the frames of a file begin, in bytes."""
    places = [match.start() for match in _FRAME_BEGINS.finditer(data)]
    return [place for place in places if _parse_frame(data[place : place + 16], FRAME) is not None]


class TestFlac(DamageCase):
    def cut(self, seconds: float) -> Path:
        """Copy the packets of a recording from a time on, as `ffmpeg -ss SECONDS -c copy` does."""
        self.whole("flac")
        path = self.directory / "cut.flac"
        with av.open(str(self.directory / "whole.flac")) as source, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.audio[0]):
                if packet.pts is not None and packet.pts * packet.time_base >= seconds:
                    packet.stream = stream
                    target.mux(packet)
        return path

    def test_a_recording_cut_without_encoding_has_each_second_once(self) -> None:
        path = self.cut(2.0)
        start = -(-2 * RATE // FRAME) * FRAME
        recording = read_recording(path, RATE)
        self.assertEqual((recording.warning, recording.damage), (None, Damage.NONE))
        np.testing.assert_allclose(recording.samples, NOISE[start:], atol=1e-4)
        self.assertAlmostEqual(duration(path), (len(NOISE) - start) / RATE, places=3)
        piece = read_recording(path, RATE, Piece(2.5, 1.0)).samples
        np.testing.assert_allclose(piece, NOISE[start + 5 * RATE // 2 :][:RATE], atol=1e-4)
        data = path.read_bytes()
        cut = read_recording(self.written("end.flac", data[: begins(data)[6]]), RATE)
        self.assertRegex(cut.warning or "", "^cut off")
        self.assertEqual(len(cut.samples), 6 * FRAME)

    def test_a_stream_that_ends_before_its_declared_length_is_not_read_twice(self) -> None:
        """libsndfile returns fewer samples than were asked for, and then earlier ones again."""
        data = bytearray(self.whole("flac"))
        data[21:26] = (data[21] & 0xF0).to_bytes(1, "big") + (len(NOISE) + FRAME).to_bytes(4, "big")
        recording = read_recording(self.written("a.flac", bytes(data)), RATE)
        self.assertEqual(len(recording.samples), len(NOISE))
        self.assertRegex(recording.warning or "", "could")

    def test_changed_bytes_are_noticed(self) -> None:
        data = self.whole("flac")
        for share in (0.2, 0.5, 0.7):
            changed = bytearray(data)
            changed[round(share * len(data))] ^= 0x10
            recording = read_recording(self.written("a.flac", bytes(changed)), RATE)
            self.assertIsNotNone(recording.warning)
            self.assertIs(recording.damage, Damage.POSSIBLE)
            self.assertEqual(len(recording.samples), len(NOISE))
            self.assertEqual(len(read_audio(self.directory / "a.flac", RATE)), len(NOISE))


class TestTime(DamageCase):
    def test_a_tail_of_marks_is_not_copied_for_each_of_them(self) -> None:
        data = bytearray(self.whole("flac"))
        data[15:18] = b"\xff\xff\xff"  # the largest frame that STREAMINFO can declare
        path = self.written("a.flac", bytes(data) + b"\xff\xf8" * (1 << 20))
        with mock.patch.object(audio_flac, "_parse_frame", wraps=_parse_frame) as parse:
            self.assertEqual(duration(path), 6.0)
        self.assertLessEqual(parse.call_count, (1 << 19) + 10)
        self.assertLessEqual(max(len(call.args[0]) for call in parse.call_args_list), 16)

    def test_marks_of_ogg_pages_have_a_budget(self) -> None:
        soundfile.write(self.directory / "a.opus", NOISE, RATE, format="OGG", subtype="OPUS")
        data = (self.directory / "a.opus").read_bytes() + (b"OggS" + b"\xff" * 24) * 20_000 + bytes(70_000)
        is_whole = audio_checksums._is_whole
        with mock.patch.object(audio_checksums, "_is_whole", wraps=is_whole) as checked:
            recording = read_recording(self.written("b.opus", data), RATE)
        self.assertIs(recording.damage, Damage.POSSIBLE)
        self.assertLess(sum(len(call.args[0]) for call in checked.call_args_list), 5 * len(data) + (1 << 20))


if __name__ == "__main__":
    unittest.main()
