"""Decoding: formats against the written samples, resampling against the analytic signal, damaged and invalid files."""

import csv
import re
import struct
import tempfile
import unittest
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.datasets import audio_structure
from hw_asr.datasets.audio import duration, read_audio, read_recording
from hw_asr.datasets.recording import AudioError, as_floats

FORMATS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "formats"
RATE = 16000


def sweep(rate: int, seconds: float, low: float = 50.0, high: float = 7000.0) -> np.ndarray:
    """A linear chirp, sampled exactly."""
    time = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds)))


def snr(signal: np.ndarray, reference: np.ndarray) -> float:
    """Signal to noise in dB."""
    return 10 * np.log10(np.sum(reference**2) / np.sum((signal - reference) ** 2))


def ogg_checksum(page: bytes) -> int:
    """The CRC of a page whose own field counts as zeros (RFC 3533, section 6)."""
    crc = 0
    for byte in [*page[:22], 0, 0, 0, 0, *page[26:]]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    return crc


class AudioCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, samples: np.ndarray, rate: int = RATE, **options: str) -> Path:
        path = self.directory / name
        soundfile.write(path, samples, rate, **options)
        return path

    def refuses(self, path: Path, *words: str) -> None:
        with self.assertRaises(AudioError) as caught:
            read_audio(path, RATE)
        for word in (str(path), *words):
            self.assertIn(word, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class TestDecoding(AudioCase):
    def test_lossless_formats_return_the_written_samples(self) -> None:
        signal = sweep(RATE, 0.5)
        cases = [("wav", "PCM_U8", 35), ("wav", "PCM_16", 80), ("wav", "PCM_24", 120), ("wav", "PCM_32", 120),
                 ("wav", "FLOAT", 120), ("wav", "DOUBLE", 120), ("wav", "ULAW", 30), ("flac", "PCM_16", 80),
                 ("aiff", "PCM_16", 80), ("au", "PCM_16", 80)]  # fmt: skip
        for extension, subtype, decibels in cases:
            with self.subTest(extension=extension, subtype=subtype):
                path = self.write(f"{subtype}.{extension}", signal, subtype=subtype)
                samples = read_audio(path, RATE)
                self.assertEqual((samples.dtype, samples.shape), (np.float32, signal.shape))
                self.assertGreater(snr(samples, signal), decibels)
                self.assertAlmostEqual(duration(path), 0.5)

    def test_lossy_formats_keep_signal_and_duration(self) -> None:
        signal = sweep(RATE, 1.0, high=3000)
        for extension, options in (("mp3", {}), ("ogg", {}), ("opus", {"format": "OGG", "subtype": "OPUS"})):
            with self.subTest(extension=extension):
                path = self.write(f"a.{extension}", signal, **options)
                samples = read_audio(path, RATE)
                self.assertAlmostEqual(len(samples) / RATE, 1.0, delta=0.01)
                self.assertAlmostEqual(duration(path), 1.0, delta=0.01)
                size = min(len(samples), len(signal))
                self.assertGreater(np.corrcoef(samples[:size], signal[:size])[0, 1], 0.98)

    def test_m4a_goes_through_ffmpeg(self) -> None:
        import av

        path, signal = self.directory / "a.m4a", sweep(RATE, 1.0, high=3000).astype(np.float32)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(signal[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            container.mux([*stream.encode(frame), *stream.encode(None)])
        for name in ("a.m4a", "wrong.wav"):
            path = path.rename(self.directory / name)
            samples = read_audio(path, RATE)
            self.assertAlmostEqual(len(samples) / RATE, 1.0, delta=0.1)
            self.assertAlmostEqual(duration(path), 1.0, delta=0.1)
            best = max(np.corrcoef(samples[s : s + 12000], signal[:12000])[0, 1] for s in range(1100))
            self.assertGreater(best, 0.98)

    def test_resampling_has_80_db_on_a_sweep(self) -> None:
        for rate in (8000, 22050, 44100, 48000):
            high = 3000 if rate == 8000 else 7000
            with self.subTest(rate=rate):
                path = self.write("s.wav", sweep(rate, 2.0, high=high), rate, subtype="FLOAT")
                samples, reference = read_audio(path, RATE), sweep(RATE, 2.0, high=high)
                self.assertEqual(len(samples), len(reference))
                middle = slice(RATE // 4, -RATE // 4)
                self.assertGreater(snr(samples[middle], reference[middle]), 80)

    def test_long_recordings_are_kept_as_integers(self) -> None:
        signal = 1.2 * sweep(44_100, 3.0)  # clipped in places
        path = self.write("long.wav", signal, 44_100, subtype="FLOAT")
        floats = read_recording(path, RATE).samples
        integers = read_recording(path, RATE, compact_seconds=1.0).samples
        self.assertEqual((integers.dtype, floats.dtype), (np.int16, np.float32))
        np.testing.assert_array_equal(integers, np.clip(np.rint(floats * 32768), -32768, 32767))
        np.testing.assert_allclose(as_floats(integers), floats, atol=1 / 32768)
        self.assertEqual(read_recording(path, RATE, compact_seconds=4.0).samples.dtype, np.float32)
        exact = np.array([-32768, -1, 0, 1, 32767] * RATE, np.int16)
        path = self.write("exact.wav", exact, RATE)
        np.testing.assert_array_equal(read_recording(path, RATE, compact_seconds=1.0).samples, exact)
        wild = self.write("wild.wav", np.concatenate([signal, [3e4]]), 44_100, subtype="FLOAT")
        with self.assertRaisesRegex(AudioError, "its samples reach"):
            read_recording(wild, RATE, compact_seconds=1.0)

    def test_channels_are_averaged(self) -> None:
        left, right = sweep(RATE, 0.3), sweep(RATE, 0.3, high=500)
        path = self.write("s.wav", np.stack([left, right, -left], axis=1), subtype="FLOAT")
        np.testing.assert_allclose(read_audio(path, RATE), right / 3, atol=1e-6)

    def test_the_extension_does_not_matter(self) -> None:
        wav = self.write("a.wav", sweep(RATE, 0.3))
        expected = read_audio(wav, RATE)
        for name in ("a.flac", "a.mp3", "a.raw", "a", "ä ö.txt"):
            np.testing.assert_array_equal(read_audio(wav.rename(self.directory / name), RATE), expected)
            wav = self.directory / name

    def test_values_beyond_full_scale_are_clipped(self) -> None:
        samples = read_audio(self.write("a.wav", 3 * sweep(RATE, 0.3), subtype="FLOAT"), RATE)
        self.assertEqual(float(np.abs(samples).max()), 1.0)


class TestDamage(AudioCase):
    def damaged(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def test_files_that_are_not_recordings_are_refused(self) -> None:
        self.refuses(self.directory / "gone.wav", "No such file")
        self.refuses(self.directory, "cannot be opened")
        self.refuses(self.damaged("empty.flac", b""), "empty")
        self.refuses(self.damaged("text.flac", b"this is no recording " * 100), "decoded")
        self.refuses(self.damaged("noise.wav", np.random.default_rng(0).bytes(5000)), "decoded")
        self.refuses(self.damaged("page.m4a", b"<html><body>404</body></html>"), "decoded")
        self.refuses(self.damaged("list.mp3", b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:1/a.ts\n"), "decoded")
        self.refuses(self.write("header.wav", np.zeros(0)), "no audio")

    def test_cut_files_are_refused(self) -> None:
        signal = np.random.default_rng(0).standard_normal(5 * RATE) * 0.1
        for extension, words in (("wav", "cut off"), ("aiff", "cut off"), ("mp3", "cut off"), ("flac", "")):
            with self.subTest(extension=extension):
                whole = self.write(f"a.{extension}", signal).read_bytes()
                self.refuses(self.damaged(f"b.{extension}", whole[: len(whole) // 2]), words)

    def test_ogg_files_cut_anywhere_are_refused(self) -> None:
        signal = np.random.default_rng(0).standard_normal(4 * RATE) * 0.1
        for subtype in ("VORBIS", "OPUS"):
            whole = self.write("a.ogg", signal, format="OGG", subtype=subtype).read_bytes()
            pages = [mark.start() for mark in re.finditer(b"OggS", whole)]
            last = pages[-1]
            middle = [len(whole) // 3, len(whole) // 2, len(whole) - 1, pages[3] + 1, pages[3] + 3, last + 4, last + 26]
            for end in [*middle, last + 27, last + 28]:
                with self.subTest(subtype=subtype, end=end, pages=pages):
                    self.refuses(self.damaged("b.ogg", whole[:end]), "cut off")

    def test_unusual_but_complete_ogg_files_are_not_refused(self) -> None:
        signal = sweep(RATE, 1.0)
        whole = self.write("a.ogg", signal, format="OGG", subtype="OPUS").read_bytes()
        last = whole.rindex(b"OggS")
        unflagged = bytearray(whole)
        unflagged[last + 5] &= ~4
        unflagged[last + 22 : last + 26] = ogg_checksum(unflagged[last:]).to_bytes(4, "little")
        cases = {
            "no end-of-stream flag": (bytes(unflagged), 1.0),
            "a tag behind": (whole + b"TAG" + bytes(125), 1.0),
            "zeros behind": (whole + bytes(1000), 1.0),
            "a short mark in a tag": (whole + b"BRAVO", 1.0),
            "two streams, one after the other": (whole + whole.replace(whole[14:18], b"next"), 1.0),
        }
        for name, (data, seconds) in cases.items():
            with self.subTest(name):
                self.assertGreaterEqual(len(read_audio(self.damaged("b.ogg", data), RATE)), seconds * RATE - 1)

    def test_an_ogg_page_whose_audio_contains_the_mark(self) -> None:
        whole = self.write("a.ogg", sweep(RATE, 1.0), format="OGG", subtype="OPUS").read_bytes()
        marked = whole[:-20] + b"OggS" + whole[-16:]
        path = self.damaged("b.ogg", marked)
        with path.open("rb") as file:
            self.assertFalse(audio_structure.examine(file).ends_in_a_page)

    def test_wrong_headers(self) -> None:
        whole = bytearray(self.write("a.wav", sweep(RATE, 0.5)).read_bytes())
        size = whole.index(b"data") + 4
        for claim, is_streamed in ((2_000_000_000, False), (0xFFFFFFFF, True), (0x7FFFFFFF, True), (0, True)):
            whole[size : size + 4] = struct.pack("<I", claim)
            path = self.damaged("b.wav", bytes(whole))
            with self.subTest(claim=claim):
                self.assertAlmostEqual(duration(path), 0.5, places=3)
                if is_streamed:
                    self.assertEqual(len(read_audio(path, RATE)), RATE // 2)
                else:
                    self.refuses(path, "cut off")

    def test_a_flac_header_that_declares_a_year(self) -> None:
        whole = bytearray(self.write("a.flac", sweep(RATE, 0.5)).read_bytes())
        whole[21] |= 0x0F  # the low 36 bits of bytes 18..25 are the number of samples (RFC 9639, 8.2)
        whole[22:26] = b"\xff\xff\xff\xff"
        path = self.damaged("b.flac", bytes(whole))
        self.refuses(path)

    def test_invalid_values(self) -> None:
        signal = sweep(RATE, 0.2)
        self.refuses(self.write("big.wav", signal * 30000, subtype="FLOAT"), "full scale")
        signal[7] = np.nan
        self.refuses(self.write("nan.wav", signal, subtype="FLOAT"), "nan")
        self.refuses(self.write("rate.wav", signal, 1_000_000), "1000000 Hz")


@unittest.skipUnless(FORMATS.is_dir(), f"{FORMATS} is not here")
class TestRealFormats(unittest.TestCase):
    def test_good_files_decode_and_broken_files_are_refused(self) -> None:
        with (FORMATS / "MANIFEST.tsv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        # Of no length, without a header, or of an impossible sampling rate.
        broken = {"null.wav", "test1_empty.wav", "awful.wav", "bad.wav", "evil.wav", "missing_wav_header.wav"}
        for row in rows:
            path = FORMATS / row["path"]
            with self.subTest(row["path"]):
                if path.name in broken or path.suffix in (".raw", ".pcm"):
                    with self.assertRaisesRegex(AudioError, path.name):
                        read_audio(path, RATE)
                    continue
                seconds = len(read_audio(path, RATE)) / RATE
                measured = row["soundfile"].split("/")
                is_counted = len(measured) == 5  # by libsndfile, decoding the file; FFmpeg's durations hold padding
                reference = int(measured[4]) / int(measured[2]) if is_counted else float(row["duration"])
                self.assertAlmostEqual(seconds / reference, 1.0, delta=0.01)
                self.assertAlmostEqual(duration(path) / reference, 1.0, delta=0.01)

        self.same_clip_in_all_containers()

    def same_clip_in_all_containers(self) -> None:
        folder = FORMATS / "speech_recognition"
        reference = read_audio(folder / "audio-mono-16-bit-44100Hz.wav", RATE)
        for path in sorted(folder.glob("audio-*")):
            with self.subTest(path.name):
                samples = read_audio(path, RATE)
                self.assertEqual(len(samples), len(reference))
                self.assertGreater(np.corrcoef(samples, reference)[0, 1], 0.99)


if __name__ == "__main__":
    unittest.main()
