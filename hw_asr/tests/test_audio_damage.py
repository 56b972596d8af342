"""Recordings that are cut off or damaged: read as far as possible, with a warning that reaches the batch."""

import os
import re
import tempfile
import unittest
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.batch import Example, Failure
from hw_asr.datasets.audio import duration, read_audio, read_recording
from hw_asr.datasets.collate import collate
from hw_asr.datasets.folder import find_recordings
from hw_asr.datasets.recording import AudioError, Damage
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.tests.media import AAC, MP3, OPUS, PCM, RATE, Codec, Part, write
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Utterance

NOISE = (0.1 * np.random.default_rng(0).standard_normal(6 * RATE)).astype(np.float32)


def sphere(samples: np.ndarray) -> bytes:
    """Return a NIST SPHERE file, which soundfile cannot write."""
    fields = f"NIST_1A\n   1024\nsample_count -i {len(samples)}\nsample_n_bytes -i 2\nchannel_count -i 1\n"
    fields += f"sample_byte_format -s2 01\nsample_rate -i {RATE}\nsample_coding -s3 pcm\nend_head\n"
    return fields.encode().ljust(1024) + (samples * 32767).astype("<i2").tobytes()


class DamageCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def written(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def whole(self, name: str) -> bytes:
        """Return a whole recording of six seconds of noise in the format that a name stands for."""
        by_pyav = {"aac": (AAC, "adts"), "mkv": (OPUS, None), "webm": (OPUS, None),
                   "flv": (AAC._replace(rate=44100), None),
                   "oga": (Codec("flac"), None), "tta": (Codec("tta"), None), "m4a": (AAC, None), "ts": (AAC, None),
                   "amr": (Codec("libopencore_amrnb", 8000), None), "caf": (PCM, None), "w64": (PCM, None),
                   "avi": (MP3, None)}  # fmt: skip
        path = self.directory / f"whole.{name}"
        extension = name.split(".")[-1]
        if extension == "sph":
            return sphere(NOISE)
        if extension in by_pyav:
            options = {"movflags": "faststart"} if extension == "m4a" else {}
            codec, container = by_pyav[extension]
            return write(path, [[Part(NOISE)]], codec, container, **options).read_bytes()
        kinds = {"rf64": {"format": "RF64"}, "opus": {"format": "OGG", "subtype": "OPUS"}}
        soundfile.write(path, NOISE, RATE, **kinds.get(extension, {}))
        return path.read_bytes()


class TestCut(DamageCase):
    def test_a_cut_recording_is_read_to_its_end(self) -> None:
        kinds = [
            "wav",
            "rf64",
            "w64",
            "aiff",
            "caf",
            "au",
            "sph",
            "flac",
            "mp3",
            "opus",
            "ogg",
            "oga",
            "aac",
            "m4a",
            "mkv",
        ]
        for kind in [*kinds, "webm", "flv", "tta", "avi"]:
            with self.subTest(kind):
                data = self.whole(kind)
                self.assertEqual(read_recording(self.written("a", data), RATE).damage, Damage.NONE)
                self.assertAlmostEqual(duration(self.written("a", data)), 6, delta=0.1)
                for share in (0.6, 0.61):
                    path = self.written("half", data[: round(share * len(data)) | 1])
                    recording = read_recording(path, RATE)
                    self.assertRegex(recording.warning or "", "^cut off")
                    self.assertAlmostEqual(duration(path), len(recording.samples) / RATE, delta=0.1)
                    self.assertIs(recording.damage, Damage.CERTAIN)
                    self.assertTrue(2.5 < len(recording.samples) / RATE < 4, len(recording.samples))
                    with self.assertRaisesRegex(AudioError, "half: cut off"):
                        read_audio(path, RATE)

    def test_a_cut_between_two_blocks_is_noticed(self) -> None:
        for kind in ("wav", "rf64", "w64", "aiff", "caf", "au", "sph"):
            data = self.whole(kind)
            content = len(data) - 2 * len(NOISE)
            with self.subTest(kind):
                recording = read_recording(self.written("a", data[: content + 4096 * 20]), RATE)
                self.assertIs(recording.damage, Damage.CERTAIN)

    def test_whole_files_with_compressed_audio_have_no_warning(self) -> None:
        written = write(self.directory / "alac.caf", [[Part(NOISE)]], Codec("alac"))
        soundfile.write(self.directory / "gsm.aiff", NOISE, RATE, format="AIFF", subtype="GSM610")
        for path in (written, self.directory / "gsm.aiff"):
            with self.subTest(path.name):
                recording = read_recording(path, RATE)
                self.assertEqual((recording.warning, recording.damage), (None, Damage.NONE))
                self.assertAlmostEqual(len(recording.samples) / RATE, 6, delta=0.3)

    def test_a_cut_of_less_than_two_percent(self) -> None:
        for kind in ("wav", "rf64", "w64", "aiff", "caf", "au", "sph"):
            data = self.whole(kind)
            with self.subTest(kind):
                recording = read_recording(self.written("a", data[: -RATE // 5]), RATE)  # 0.1 s of 16-bit samples
                self.assertEqual(recording.warning, "0.10 s of it could not be decoded")
                self.assertIs(recording.damage, Damage.POSSIBLE)

    def test_the_length_of_a_cut_flac_file(self) -> None:
        data = self.whole("flac")
        joined = data + data
        for content in (data[:-6000], data[: len(data) // 3], joined, joined[: round(0.8 * len(joined))], data[:-1]):
            path = self.written("a.flac", content)
            decoded = len(read_recording(path, RATE).samples) / RATE
            self.assertAlmostEqual(duration(path), decoded, delta=4096 / RATE)  # a frame

    def test_the_length_by_packets(self) -> None:
        for kind, codec in (("ts", AAC), ("ts", Codec("ac3", 48000)), ("mkv", PCM)):
            with self.subTest(kind, codec=codec.name):
                path = write(self.directory / f"a.{kind}", [[Part(NOISE)]], codec)
                self.assertAlmostEqual(duration(path), len(read_recording(path, RATE).samples) / RATE, delta=0.1)

    def test_an_index_that_is_cut_off_has_no_length(self) -> None:
        codec = Codec("libopencore_amrnb", 8000)
        data = write(self.directory / "a.3gp", [[Part(NOISE)]], codec).read_bytes()
        path = self.written("b.3gp", data[:-20])
        with self.assertRaisesRegex(AudioError, "b.3gp: contains no audio"):
            duration(path)
        with self.assertRaisesRegex(AudioError, "b.3gp: contains no audio"):
            read_audio(path, RATE)

    def test_a_header_alone_is_refused(self) -> None:
        for kind in ("m4a", "ogg", "mkv", "mp3"):
            with self.subTest(kind), self.assertRaisesRegex(AudioError, "b: "):
                read_recording(self.written("b", self.whole(kind)[:40]), RATE)

    def test_mp3_without_a_tag(self) -> None:
        whole = write(self.directory / "a.mp3", [[Part(NOISE)]], MP3, write_xing="0").read_bytes()
        self.assertIsNone(read_recording(self.written("a.mp3", whole), RATE).warning)
        half = read_recording(self.written("b.mp3", whole[: len(whole) // 2 + 7]), RATE)
        self.assertRegex(half.warning or "", "its last frame is incomplete")
        self.assertAlmostEqual(duration(self.directory / "b.mp3"), len(half.samples) / RATE, delta=0.1)

    def test_tags_around_the_audio_are_no_damage(self) -> None:
        for kind in ("wav", "mp3"):
            data = self.whole(kind)
            for tag in (b"ID3\3\0\0\0\0\0\x0b" + bytes(11), b"ID3\3\0\0\0\0\1\0" + bytes(128)):
                with self.subTest(kind, tag_in_front=len(tag)):
                    recording = read_recording(self.written("a", tag + data), RATE)
                    self.assertEqual((recording.warning, recording.damage), (None, Damage.NONE))
                    self.assertAlmostEqual(duration(self.directory / "a"), 6, delta=0.1)
            if kind == "wav":
                cut = read_recording(self.written("a", tag + data[: len(data) // 2]), RATE)
                self.assertRegex(cut.warning or "", "^cut off: its header declares 6.0 s, 3.0 s could")
        tails = {"erased": b"\xff" * 5000}
        tails |= {"ID3v1": b"TAG" + bytes(125), "zeros": bytes(1000), "lyrics": b"LYRICSBEGININD00003110LYRICS200"}
        for kind in ("mp3", "aac", "flac", "opus", "wav", "m4a", "webm"):
            data = self.whole(kind)
            for name, tail in tails.items():
                with self.subTest(kind, tail=name):
                    recording = read_recording(self.written("a", data + tail), RATE)
                    self.assertEqual((recording.warning, recording.damage), (None, Damage.NONE))

    def test_damage_in_the_middle_is_skipped(self) -> None:
        for kind, words in (
            ("mp3", "packets are damaged"),
            ("aac", "packets are damaged"),
            ("flac", "not be decoded|packets are damaged"),
        ):
            data = bytearray(self.whole(kind))
            middle = len(data) // 2
            data[middle : middle + 700] = np.random.default_rng(1).bytes(700)
            with self.subTest(kind):
                recording = read_recording(self.written("a", bytes(data)), RATE)
                self.assertRegex(recording.warning or "", words)
                self.assertIs(recording.damage, Damage.POSSIBLE)
                self.assertAlmostEqual(len(recording.samples) / RATE, 6, delta=0.3)

    def test_damaged_pages_and_clusters_are_noticed(self) -> None:
        for kind, share, size, words, damage in (
            ("opus", 0.5, 40, "^1 of its 8 Ogg pages are damaged or missing$", Damage.POSSIBLE),
            ("ogg", 0.5, 3000, "^2 of its 9 Ogg pages", Damage.POSSIBLE),
            ("oga", 0.97, 40, "^1 of its 8 Ogg pages", Damage.POSSIBLE),
            ("mkv", 0.5, 1, "^1 of its 2 Matroska clusters are damaged or missing$", Damage.POSSIBLE),
            ("webm", 0.5, 700, "^2.1 s of it are missing: the file is damaged$", Damage.POSSIBLE),
            ("flv", 0.5, 700, "cut off after 3.0 s: its last packet is incomplete$", Damage.CERTAIN),
        ):
            data = bytearray(self.whole(kind))
            start = round(share * len(data))
            data[start : start + size] = bytes(byte ^ 0x55 for byte in data[start : start + size])
            with self.subTest(kind):
                recording = read_recording(self.written("a", bytes(data)), RATE)
                self.assertRegex(recording.warning or "", words)
                self.assertIs(recording.damage, damage)
        data = self.whole("opus")
        pages = [match.start() for match in re.finditer(b"OggS", data)]
        without_a_page = self.written("a", data[: pages[4]] + data[pages[5] :])
        self.assertRegex(read_recording(without_a_page, RATE).warning or "", "^1 of its 8 Ogg pages")


class TestWarnings(DamageCase):
    def test_warnings_reach_the_batch(self) -> None:
        whole, half = self.whole("wav"), self.whole("mp3")
        paths = [self.written("a.wav", whole), self.written("b.wav", whole[: len(whole) // 2])]
        middle = len(half) // 2
        paths.append(self.written("c.mp3", half[:middle] + bytes([7] * 700) + half[middle + 700 :]))
        utterances = [Utterance(path.name, str(path), "text", 6.0) for path in paths]
        utterances.append(Utterance("piece", str(paths[1]), "text", 1.0, None, 0.5))
        left_out = {Damage.NONE: {"b.wav", "c.mp3"}, Damage.POSSIBLE: {"b.wav"}, Damage.CERTAIN: set()}
        for tolerated, names in left_out.items():
            dataset = SpeechDataset(utterances, CTCCharTextEncoder(), RATE, tolerated)
            batch = collate([dataset[index] for index in range(len(dataset))])
            with self.subTest(tolerated=tolerated):
                self.assertEqual({failure.utterance.id for failure in batch.failures}, names)
                kept = dict(zip([utterance.id for utterance in batch.utterances], batch.warnings, strict=True))
                self.assertEqual(set(kept), {"a.wav", "b.wav", "c.mp3", "piece"} - names)
                self.assertEqual((kept["a.wav"], kept["piece"]), (None, None))
                if tolerated is Damage.CERTAIN:
                    self.assertIn("cut off: its header declares 6.0 s", kept["b.wav"] or "")
        dataset = SpeechDataset(utterances, CTCCharTextEncoder(), RATE)
        failure, piece = dataset[1], dataset[3]
        assert isinstance(failure, Failure) and isinstance(piece, Example)
        self.assertIn("b.wav: cut off", failure.reason)
        self.assertEqual(len(piece.samples), RATE)
        short = SpeechDataset(utterances, CTCCharTextEncoder(), RATE, max_audio_hours=0.001)[0]
        self.assertIsInstance(short, Failure)


class TestFolder(DamageCase):
    def test_everything_that_ffmpeg_reads_is_found_and_the_rest_is_counted(self) -> None:
        names = [
            "a.oga",
            "b.3gp",
            "c.MKV",
            "d.caf",
            "e.mov",
            "f.spx",
            "g.amr",
            "h.ts",
            "i.wv",
            "j.w64",
            "k.au",
            "l.mka",
        ]
        for name in [*names, "x.txt", "y.TXT", "z.pdf", "README", ".hidden.wav"]:
            self.written(name, b"RIFF")
        (self.directory / os.fsdecode(b"m\xff.wav")).write_bytes(self.whole("wav"))
        (self.directory / "whole.wav").unlink()
        with self.assertLogs("hw_asr", "WARNING") as log:
            listed = find_recordings(self.directory)
        self.assertEqual([utterance.id for utterance in listed.utterances], [*names, os.fsdecode(b"m\xff.wav")])
        self.assertEqual(listed.utterances[-1].duration, 6.0)
        counts = {".txt": 2, ".pdf": 1, "no extension": 1}
        self.assertEqual(listed.dropped, {f"not a recording ({name})": count for name, count in counts.items()})
        self.assertIn("files left out: 2 not a recording (.txt)", log.output[0])


if __name__ == "__main__":
    unittest.main()
