"""Hostile recordings: only regular files are opened; rates, channels, length, reads and output are bounded."""

import io
import os
import socket
import struct
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from hw_asr.datasets import audio_file
from hw_asr.datasets.audio import duration, read_recording
from hw_asr.datasets.audio_structure import MAX_CHUNKS, MAX_STREAMS, examine
from hw_asr.datasets.recording import AudioError, Piece
from hw_asr.tests.media import OPUS, RATE, Part, write
from hw_asr.tests.test_audio_damage import NOISE, DamageCase


class TestHostileRecordings(DamageCase):
    def refused(self, path: Path, words: str) -> None:
        for read in (lambda: read_recording(path, RATE), lambda: duration(path)):
            with self.assertRaisesRegex(AudioError, f"{path.name}.*{words}"):
                read()

    @unittest.skipUnless(hasattr(os, "mkfifo"), "there are no FIFOs here")
    def test_only_regular_files_are_opened(self) -> None:
        os.mkfifo(self.directory / "fifo.wav")
        self.refused(self.directory / "fifo.wav", "not a regular file")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self.directory / "socket.wav"))
            self.refused(self.directory / "socket.wav", "cannot be opened|not a regular file")
        for device in ("/dev/null", "/dev/zero"):
            (self.directory / "device.wav").unlink(missing_ok=True)
            (self.directory / "device.wav").symlink_to(device)
            self.refused(self.directory / "device.wav", "not a regular file")
        for name in ("no\0.wav", "\ud800.wav", "x" * 300):
            with self.assertRaises(AudioError):
                read_recording(self.directory / name, RATE)

    def wav(self, rate: int = RATE, bits: int = 16, channels: int = 1) -> bytes:
        data = bytes(100_000)
        fields = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
        return (
            b"RIFF"
            + struct.pack("<I", 36 + len(data))
            + b"WAVEfmt "
            + fields
            + b"data"
            + struct.pack("<I", len(data))
            + data
        )

    def test_headers_with_impossible_values(self) -> None:
        cases = {"bits": self.wav(bits=0), "rate": self.wav(rate=1), "high": self.wav(rate=2**31 - 1),
                 "channels": self.wav(channels=1000), "none": self.wav(channels=0)}  # fmt: skip
        for name, data in cases.items():
            with self.subTest(name), self.assertRaises(AudioError):
                read_recording(self.written(f"{name}.wav", data), RATE)

    def test_the_length_is_limited(self) -> None:
        seconds = 60
        path = self.directory / "a.flac"
        soundfile.write(path, np.zeros(seconds * RATE, np.int16), RATE)
        with self.assertRaisesRegex(AudioError, "a.flac: longer than 0.01 h.*max_audio_hours"):
            read_recording(path, RATE, max_audio_hours=0.01)
        self.assertEqual(len(read_recording(path, RATE, Piece(50, 2), max_audio_hours=0.01).samples), 2 * RATE)
        gap = write(self.directory / "a.mkv", [[Part(NOISE), Part(NOISE, 3000)]], OPUS)
        with self.assertRaisesRegex(AudioError, "longer than 0.5 h"):
            read_recording(gap, RATE, max_audio_hours=0.5)

    def test_a_demuxer_that_does_not_terminate(self) -> None:
        path = self.written("a.mp3", self.whole("mp3"))
        with (
            mock.patch.object(audio_file, "MIN_READ_LIMIT", 0),
            mock.patch.object(audio_file, "MAX_READS_OF_A_FILE", 0.5),
        ):
            self.refused(path, "over and over")

    def test_the_structure_is_examined_with_few_reads(self) -> None:
        class Counted(io.FileIO):
            num_reads = 0

            def read(self, size: int = -1) -> bytes:  # type: ignore[override]
                self.num_reads += 1
                return super().read(size)

        many = {
            "chunks.wav": b"RIFF\xff\xff\xff\xffWAVE" + (b"junk" + bytes(4)) * 200_000,
            "streams.flac": b"fLaC\0\0\0\x22" * 200_000,
        }
        for name, data in many.items():
            with self.subTest(name), Counted(str(self.written(name, data))) as file:
                structure = examine(file)  # type: ignore[arg-type]
                self.assertFalse(structure.is_plain)
                self.assertLess(file.num_reads, 2 * MAX_CHUNKS)
                self.assertLessEqual(len(structure.starts), MAX_STREAMS + 1)

    def test_native_libraries_print_nothing(self) -> None:
        paths = []
        for kind in ("mp3", "flac", "opus", "webm", "aac", "amr"):
            data = bytearray(self.whole(kind))
            data[len(data) // 2 :: 100] = bytes(len(data[len(data) // 2 :: 100]))
            paths.append(self.written(f"a.{kind}", bytes(data)))
        with tempfile.TemporaryFile() as output:
            saved = os.dup(2)
            os.dup2(output.fileno(), 2)
            try:
                for path in paths:
                    try:
                        read_recording(path, RATE)
                        duration(path)
                    except AudioError:
                        pass
            finally:
                os.dup2(saved, 2)
                os.close(saved)
            output.seek(0)
            self.assertEqual(output.read(), b"")


if __name__ == "__main__":
    unittest.main()
