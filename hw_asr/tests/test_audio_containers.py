"""Length and content of recordings whose headers, time stamps or structure are unusual; every input is made here."""

import struct
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from hw_asr.datasets import audio
from hw_asr.datasets.audio import duration, read_audio, read_recording
from hw_asr.datasets.recording import AudioError, Damage, Piece, Recording
from hw_asr.tests.media import AAC, MP3, OPUS, PCM, RATE, Codec, Part, write


def tones(seconds: float, low: float = 300.0) -> np.ndarray:
    """Return a chirp, so that every moment sounds different."""
    time = np.arange(round(RATE * seconds)) / RATE
    return (0.4 * np.sin(2 * np.pi * (low * time + 150 * time**2))).astype(np.float32)


def loud_seconds(samples: np.ndarray) -> list[float]:
    """Return where sound begins and ends, in seconds, to 20 ms."""
    blocks = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).max(axis=1) > 0.05
    return [round(0.02 * edge, 2) for edge in np.flatnonzero(np.diff(np.concatenate([[0], blocks, [0]])))]


class ContainerCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def path(self, name: str) -> Path:
        return self.directory / name

    def written(self, name: str, content: bytes) -> Path:
        path = self.path(name)
        path.write_bytes(content)
        return path

    def by_soundfile(self, name: str, samples: np.ndarray, **options: str) -> bytes:
        soundfile.write(self.path(name), samples, RATE, **options)
        return self.path(name).read_bytes()

    def lasts(self, path: Path, seconds: float, warning: str | None = None) -> Recording:
        """Check the length as decoded and as measured, and the warning; return the recording."""
        recording = read_recording(path, RATE)
        self.assertAlmostEqual(len(recording.samples) / RATE, seconds, delta=0.21, msg=path.name)
        self.assertAlmostEqual(duration(path), seconds, delta=0.3, msg=path.name)
        if warning is None:
            self.assertIsNone(recording.warning, path.name)
        else:
            self.assertRegex(recording.warning or "", warning)
        return recording


class TestLength(ContainerCase):
    def test_mp3_tags_are_hints(self) -> None:
        quiet_then_loud = np.concatenate([0.001 * tones(3), tones(3)])
        vbr = write(self.path("vbr.mp3"), [[Part(quiet_then_loud)]], MP3._replace(options={"q": "2"}), write_xing="0")
        self.lasts(vbr, 6.0)
        whole = self.by_soundfile("tag.mp3", quiet_then_loud)
        tag = max(whole.find(b"Xing"), whole.find(b"Info"))
        for factor in (0.25, 3):
            frames = int.from_bytes(whole[tag + 8 : tag + 12], "big")
            wrong = whole[: tag + 8] + struct.pack(">I", int(frames * factor)) + whole[tag + 12 :]
            recording = self.lasts(self.written("wrong.mp3", wrong), 6.0, None if factor < 1 else "header declares 18")
            self.assertLess(recording.damage, Damage.CERTAIN)

    def test_files_joined_by_their_bytes(self) -> None:
        first, second = tones(2), tones(1, low=900)
        for name, options in (
            ("a.flac", {}),
            ("a.mp3", {}),
            ("a.ogg", {}),
            ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ):
            with self.subTest(name):
                parts = [self.by_soundfile(name, samples, **options) for samples in (first, second)]
                self.lasts(self.written(name, b"".join(parts)), 3.0)
        for name, codec, container in (("b.oga", Codec("flac"), "oga"), ("b.aac", AAC, "adts")):
            with self.subTest(name):
                parts = [
                    write(self.path(name), [[Part(part)]], codec, container).read_bytes() for part in (first, second)
                ]
                self.lasts(self.written(name, b"".join(parts)), 3.0)

    def test_rate_and_channels_change_midway(self) -> None:
        mono, stereo = tones(2), np.stack([tones(1), tones(1)], axis=1)
        for container, codec in (("mp3", MP3), ("adts", AAC)):
            for name, samples, rate in (("rate", tones(1), 44100), ("channels", stereo, RATE)):
                with self.subTest(container=container, change=name):
                    parts = [
                        write(self.path("part"), [[Part(part)]], codec._replace(rate=part_rate), container).read_bytes()
                        for part, part_rate in ((mono, RATE), (samples, rate))
                    ]
                    recording = self.lasts(self.written(f"{name}.{container}", b"".join(parts)), 3.1)
                    self.assertGreater(np.abs(recording.samples[-RATE // 2 : -RATE // 4]).max(), 0.2)

    def test_video_that_is_longer(self) -> None:
        for name, codec in (("a.webm", OPUS), ("a.mkv", OPUS), ("a.mp4", AAC), ("a.mov", AAC), ("a.avi", PCM)):
            with self.subTest(name):
                self.lasts(write(self.path(name), [[Part(tones(1.5))]], codec, video_seconds=6), 1.5)

    def test_every_kind_of_container(self) -> None:
        kinds = {
            "a.m4a": AAC,
            "a.3gp": AAC,
            "a.mov": PCM,
            "a.mka": Codec("flac"),
            "a.ts": AAC,
            "a.flv": AAC._replace(rate=44100),
        }
        kinds |= {
            "a.caf": PCM,
            "a.au": Codec("pcm_s16be"),
            "a.w64": PCM,
            "a.wv": Codec("wavpack"),
            "a.tta": Codec("tta"),
        }
        kinds |= {
            "a.ac3": Codec("ac3", 48000),
            "a.aiff": Codec("pcm_s16be"),
            "a.oga": Codec("flac"),
        }
        for name, codec in kinds.items():
            with self.subTest(name):
                recording = self.lasts(write(self.path(name), [[Part(tones(2))]], codec), 2.0)
                inner = tones(2)[8000:24000]
                correlation = np.correlate(recording.samples[7000:26000], inner, "valid")
                best = correlation.max() / np.dot(inner, inner)
                self.assertAlmostEqual(float(best), 1.0, delta=0.05)


class TestClock(ContainerCase):
    def test_gaps_are_silent(self) -> None:
        parts = [Part(tones(1.0)), Part(tones(1.0), 4.0)]
        for name, codec in (
            ("a.webm", OPUS),
            ("a.mkv", AAC),
            ("a.m4a", AAC),
            ("a.ts", AAC),
            ("a.flv", AAC._replace(rate=44100)),
        ):
            with self.subTest(name):
                recording = self.lasts(write(self.path(name), [parts], codec), 5.0)
                np.testing.assert_allclose(loud_seconds(recording.samples), [0, 1, 4, 5], atol=0.11)

    def test_a_gap_in_an_ogg_file_is_filled_within_a_page(self) -> None:
        path = write(self.path("a.opus"), [[Part(tones(3.0)), Part(tones(1.0), 8.0)]], OPUS, page_duration="200000")
        recording = self.lasts(path, 9.0)
        np.testing.assert_allclose(loud_seconds(recording.samples)[-3:], [3.2, 8.2, 9], atol=0.31)

    def test_audio_that_starts_late(self) -> None:
        for name, codec in (("a.webm", OPUS), ("a.mkv", AAC), ("a.mp4", AAC)):
            for video_seconds in (0.0, 3.0):
                with self.subTest(name, video_seconds=video_seconds):
                    path = write(self.path(name), [[Part(tones(1.0), 1.5)]], codec, video_seconds=video_seconds)
                    np.testing.assert_allclose(loud_seconds(self.lasts(path, 2.5).samples), [1.5, 2.5], atol=0.11)

    def test_jitter_is_not_a_gap(self) -> None:
        parts = [Part(tones(0.5), 0.52 * number) for number in range(4)]
        recording = self.lasts(write(self.path("a.mkv"), [parts], PCM), 2.0)
        self.assertEqual(len(loud_seconds(recording.samples)), 2)


class TestPieces(ContainerCase):
    def test_a_piece_equals_that_part_of_the_whole(self) -> None:
        signal = tones(6.0)
        paths = [self.path(name) for name in ("a.wav", "a.flac", "a.ogg", "a.mp3")]
        for path in paths:
            soundfile.write(path, signal, RATE)
        kinds = {"a.m4a": AAC, "a.mka": Codec("flac"), "a.aac": AAC, "a.caf": PCM, "a.ts": AAC, "a.avi": PCM}
        paths += [
            write(self.path(name), [[Part(signal)]], codec, "adts" if name == "a.aac" else None)
            for name, codec in kinds.items()
        ]
        for path in paths:
            whole = read_audio(path, RATE)
            for start, seconds in ((0.0, 0.5), (0.7, 1.0), (4.0, 1.5)):
                with self.subTest(path.name, start=start):
                    piece = read_recording(path, RATE, Piece(start, seconds))
                    first = round(start * RATE)
                    self.assertEqual((len(piece.samples), piece.warning), (round(seconds * RATE), None))
                    np.testing.assert_allclose(piece.samples, whole[first : first + len(piece.samples)], atol=5e-3)

    def test_matroska_is_exact_to_the_millisecond(self) -> None:
        path = write(self.path("a.webm"), [[Part(tones(6.0))]], OPUS)
        whole, piece = read_audio(path, RATE), read_recording(path, RATE, Piece(4.0, 1.0)).samples
        shifts = {shift: np.abs(whole[64000 + shift : 80000 + shift] - piece).max() for shift in range(-32, 33)}
        self.assertLessEqual(abs(min(shifts, key=shifts.__getitem__)), 16)

    def test_after_a_gap_and_another_rate(self) -> None:
        parts = [Part(tones(3.0)), Part(tones(3.0), 10.0)]
        path = write(self.path("a.m4a"), [parts], Codec("aac", 44100))
        piece = read_recording(path, RATE, Piece(9.0, 2.0)).samples
        np.testing.assert_allclose(loud_seconds(piece), [1, 2], atol=0.08)

    def test_the_end_of_the_recording(self) -> None:
        soundfile.write(self.path("a.wav"), tones(2.0), RATE)
        rest = read_recording(self.path("a.wav"), RATE, Piece(1.5))
        self.assertEqual((len(rest.samples), rest.warning), (RATE // 2, None))
        short = read_recording(self.path("a.wav"), RATE, Piece(1.5, 1.0))
        self.assertEqual((len(short.samples), short.damage), (RATE // 2, Damage.CERTAIN))
        for name, make in (("a.wav", None), ("a.m4a", AAC)):
            if make:
                write(self.path(name), [[Part(tones(2.0))]], make)
            with self.assertRaisesRegex(AudioError, "ends before the piece at 3 s"):
                read_recording(self.path(name), RATE, Piece(3.0, 1.0))


class TestTracksAndChannels(ContainerCase):
    def test_pieces_of_adpcm_are_where_they_belong(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, RATE * 120)
        for subtype in ("MS_ADPCM", "IMA_ADPCM"):
            path = self.path(f"{subtype}.wav")
            soundfile.write(path, noise, RATE, subtype=subtype)
            whole, piece = read_audio(path, RATE), read_recording(path, RATE, Piece(110.0, 1.0)).samples
            with self.subTest(subtype):
                np.testing.assert_array_equal(whole[110 * RATE : 111 * RATE], piece)

    def test_pieces_of_other_codecs_in_wav_are_where_they_belong(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, RATE * 20).astype(np.float32)
        for codec in (Codec("g722"), Codec("adpcm_yamaha"), Codec("pcm_alaw")):
            path = write(self.path("a.wav"), [[Part(noise)]], codec)
            whole, piece = read_audio(path, RATE), read_recording(path, RATE, Piece(15.0, 1.0)).samples
            with self.subTest(codec.name):
                np.testing.assert_allclose(whole[15 * RATE : 16 * RATE], piece, atol=5e-3)

    def test_the_structure_is_examined_once_for_all_pieces(self) -> None:
        soundfile.write(self.path("a.flac"), tones(3.0), RATE)
        with mock.patch.object(audio, "examine", wraps=audio.examine) as examined:
            pieces = [read_recording(self.path("a.flac"), RATE, Piece(start, 0.5)).samples for start in (0, 1, 2)]
            self.assertEqual(examined.call_count, 1)
            soundfile.write(self.path("a.flac"), tones(2.0), RATE)
            read_recording(self.path("a.flac"), RATE, Piece(1.0, 0.5))
            self.assertEqual(examined.call_count, 2)
        np.testing.assert_allclose(np.concatenate(pieces[1:2]), tones(3.0)[RATE : RATE + RATE // 2], atol=1e-3)

    def test_a_silent_track_is_skipped(self) -> None:
        for name, codec in (("a.mkv", OPUS), ("a.mp4", AAC)):
            with self.subTest(name):
                path = write(self.path(name), [[Part(0 * tones(2.0))], [Part(tones(2.0))]], codec)
                recording = self.lasts(path, 2.0, "2 audio tracks, of which only track 2 is used")
                self.assertGreater(np.abs(recording.samples).max(), 0.2)
                self.assertIs(recording.damage, Damage.NONE)

    def test_one_of_several_tracks_is_used(self) -> None:
        path = write(self.path("a.mkv"), [[Part(tones(2.0))], [Part(tones(2.0, 900))]])
        self.lasts(path, 2.0, "2 audio tracks, of which only track 1 is used")

    def test_many_channels(self) -> None:
        """Eight planes are one more than PyAV's frames can be asked for."""
        signal = tones(1.0)
        samples = np.stack([signal, *[0 * signal] * 7], axis=1)
        for name, codec in (("a.mka", Codec("aac", 48000)), ("a.wv", Codec("wavpack")), ("a.flac", Codec("flac"))):
            with self.subTest(name):
                recording = self.lasts(write(self.path(name), [[Part(samples)]], codec), 1.0)
                self.assertAlmostEqual(float(np.abs(recording.samples).max()), 0.4 / 8, delta=0.005)

    def test_opposed_channels(self) -> None:
        signal = tones(2.0)
        makers: dict[str, Callable[[np.ndarray], None]] = {
            "a.wav": lambda samples: soundfile.write(self.path("a.wav"), samples, RATE),
            "a.webm": lambda samples: write(self.path("a.webm"), [[Part(samples)]], OPUS),
        }
        for name, make in makers.items():
            for right, expected in ((-0.9 * signal, 0.4), (0 * signal, 0.2), (signal, 0.4)):
                with self.subTest(name, expected=expected):
                    make(np.stack([signal, right], axis=1))
                    self.assertAlmostEqual(float(np.abs(read_audio(self.path(name), RATE)).max()), expected, delta=0.03)


if __name__ == "__main__":
    unittest.main()
