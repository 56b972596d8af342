"""Corpora in directory trees with their original layout, local and downloaded from a loopback server."""

import hashlib
import logging
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import hw_asr.datasets  # noqa: F401  # fills the registry
from hw_asr.config.registry import DATASETS
from hw_asr.datasets import an4 as an4_module
from hw_asr.datasets import common_voice as common_voice_module
from hw_asr.datasets import fsdd as fsdd_module
from hw_asr.datasets import librispeech as librispeech_module
from hw_asr.datasets import ljspeech as ljspeech_module
from hw_asr.datasets.folder import find_recordings
from hw_asr.datasets.manifest import DataError
from hw_asr.runtime.download import DownloadError
from hw_asr.tests import corpus_trees as trees
from hw_asr.tests.fault_server import fault_server
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Selection


class CorpusCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.encoder = CTCCharTextEncoder()
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)

    def corpus(self, kind: str, **args: Any) -> Any:
        spec = {
            "type": kind,
            "args": {key: str(each) if isinstance(each, Path) else each for key, each in args.items()},
        }
        self.assertEqual(DATASETS.check(spec, "here", ("root_dir", "sample_rate")), [])
        return DATASETS.build(spec, root_dir=self.root, sample_rate=16000)

    def select(self, kind: str, **args: Any) -> Selection:
        return self.corpus(kind, **args).select(self.encoder.normalize)


class TestLocalCorpora(CorpusCase):
    def test_constructing_a_corpus_reads_nothing(self) -> None:
        for kind, args in (
            ("LibrispeechDataset", {"part": "train_all"}), ("LJspeechDataset", {}), ("FSDDDataset", {"split": "test"}),
            ("CommonVoiceDataset", {"split": "dev"}), ("AN4Dataset", {"split": "test"}),
            ("CustomDirAudioDataset", {"audio_dir": "gone"}), ("CustomAudioDataset", {"data": "gone.json"}),
        ):  # fmt: skip
            self.assertRegex(self.corpus(kind, **args).status(), "missing|would be downloaded")
        self.assertEqual(list(self.root.iterdir()), [])

    def test_librispeech(self) -> None:
        trees.librispeech(self.root / "a", "dev-clean")
        selection = self.select("LibrispeechDataset", part="dev-clean", data_dir=self.root / "a")
        self.assertEqual(len(selection.utterances), 12)
        first = selection.utterances[0]
        self.assertEqual((first.id, first.speaker, first.text), ("100-2000-0000", "100", "its utterance number a"))
        self.assertEqual([each.duration for each in selection.utterances[:4]], [0.25, 0.5, 0.75, 1.0])
        self.assertTrue(Path(first.audio_path).is_file())
        filtered = self.select(
            "LibrispeechDataset", part="dev-clean", data_dir=self.root / "a", max_audio_length=0.6, limit=4
        )
        self.assertEqual((len(filtered.utterances), sum(filtered.dropped.values())), (4, 8))

    def test_librispeech_without_the_upper_directory_and_train_all(self) -> None:
        for number, part in enumerate(librispeech_module.TRAIN_ALL, 1):
            trees.librispeech(self.root / "b", part, num_chapters=number)
        (self.root / "b" / "LibriSpeech").rename(self.root / "librispeech")
        self.assertEqual(len(self.select("LibrispeechDataset", part="train_all", max_audio_length=0.3).utterances), 3)
        self.assertEqual(len(self.select("LibrispeechDataset", part="train-clean-360").utterances), 8)

    def test_librispeech_with_damage(self) -> None:
        part = trees.librispeech(self.root, "dev-clean") / "dev-clean"
        (part / "100" / "2000" / "100-2000-0001.flac").unlink()
        (part / "100" / "2000" / "100-2000-0002.flac").write_bytes(b"")
        selection = self.select("LibrispeechDataset", part="dev-clean", data_dir=self.root)
        self.assertEqual([each.id[-1] for each in selection.utterances if each.duration == 0], ["1", "2"])
        for path in part.rglob("*.flac"):
            path.write_bytes(b"no flac")
        with self.assertRaisesRegex(DataError, "none of its 12 recordings can be opened; the first one: .*0000.flac"):
            self.select("LibrispeechDataset", part="dev-clean", data_dir=self.root)
        for path in part.rglob("*.txt"):
            path.unlink()
        with self.assertRaisesRegex(DataError, "no .trans.txt"):
            self.select("LibrispeechDataset", part="dev-clean", data_dir=self.root)

    def test_ljspeech(self) -> None:
        trees.ljspeech(self.root / "LJSpeech-1.1")
        parts = {part: self.select("LJspeechDataset", part=part).utterances for part in ("train", "test", "all")}
        self.assertEqual({part: len(found) for part, found in parts.items()}, {"train": 17, "test": 3, "all": 20})
        self.assertEqual(parts["train"] + parts["test"], parts["all"])
        self.assertEqual(parts["all"][3].text, "in number the doctor said")

    def test_files_of_transcripts_are_utf_8(self) -> None:
        kinds: list[tuple[str, Path, str, dict[str, str]]] = [
            ("LJspeechDataset", trees.ljspeech(self.root / "LJSpeech-1.1"), "metadata.csv", {}),
            ("AN4Dataset", trees.an4(self.root / "an4"), "an4_train.transcription", {"split": "train"}),
            ("LibrispeechDataset", trees.librispeech(self.root / "librispeech", "dev-clean"), "100-2000.trans.txt",
             {"part": "dev-clean"}),
        ]  # fmt: skip
        for kind, directory, name, args in kinds:
            with self.subTest(kind):
                (path,) = directory.rglob(name)
                expected = self.select(kind, **args).utterances
                text = path.read_text()
                changed = text.replace("DOCTOR", "DOC\u2028TOR").replace("Doctor", "Doc\u2028tor").replace("\n", "\r\n")
                path.write_text(changed, encoding="utf-8-sig", newline="")
                self.assertEqual(
                    [each.id for each in self.select(kind, **args).utterances], [each.id for each in expected]
                )
                path.write_bytes(text.encode() + b"caf\xe9")
                with self.assertRaisesRegex(
                    DataError, f"{name}: the transcripts cannot be read: .*expected a file in UTF-8"
                ):
                    self.select(kind, **args)

    def test_an_archive_of_common_voice_that_is_unpacked(self) -> None:
        tree = trees.common_voice(self.root / "cv-corpus-9")
        packed = trees.archived(tree, self.root / "x.tar.gz")
        (self.root / "common_voice").mkdir()
        packed = packed.rename(self.root / "common_voice" / "cv.tgz")
        self.assertEqual(len(self.select("CommonVoiceDataset", split="test", data_dir=packed).utterances), 5)
        with mock.patch.object(
            common_voice_module, "waiting_lock", side_effect=AssertionError
        ):  # as on a read-only disk
            self.assertEqual(len(self.select("CommonVoiceDataset", split="test", data_dir=packed).utterances), 5)

    def test_common_voice_in_all_locations(self) -> None:
        tree = trees.common_voice(self.root / "cv-corpus-9")
        expected = self.select("CommonVoiceDataset", split="dev", data_dir=tree / "en").utterances
        self.assertEqual(expected[0].text, "quoted he said dev")
        self.assertEqual((len(expected), expected[1].speaker, expected[0].id), (5, "c1", "common_voice_en_dev0"))
        self.assertAlmostEqual(expected[0].duration, 0.5, delta=0.05)
        self.assertEqual(self.select("CommonVoiceDataset", split="validation", data_dir=tree).utterances, expected)
        packed = trees.archived(tree, self.root / "cv.tar.gz")
        for _ in range(2):
            unpacked = self.select("CommonVoiceDataset", split="test", data_dir=packed).utterances
            self.assertEqual(len(unpacked), 5)
            packed.write_bytes(packed.read_bytes()[:100])
        self.assertTrue(Path(unpacked[0].audio_path).is_relative_to(self.root / "common_voice" / "cv"))

    def test_common_voice_reports_what_is_missing(self) -> None:
        with self.assertRaisesRegex(DataError, "test.tsv.*datacollective.mozillafoundation.org"):
            self.select("CommonVoiceDataset", split="test")
        tree = trees.common_voice(trees.common_voice(self.root / "common_voice"), language="de")
        with self.assertRaisesRegex(DataError, "choose one by data_dir or language"):
            self.select("CommonVoiceDataset", split="test")
        found = self.select("CommonVoiceDataset", split="test", language="de").utterances
        self.assertEqual(Path(found[0].audio_path).parent, tree / "de" / "clips")

    def test_fsdd(self) -> None:
        trees.fsdd(self.root / "fsdd")
        train, test = (self.select("FSDDDataset", split=split).utterances for split in ("train", "test"))
        self.assertEqual((len(train), len(test)), (12, 20))
        self.assertEqual({each.text for each in train}, {"zero", "seven"})
        self.assertTrue(all(int(each.id.split("_")[2]) < 5 for each in test))
        train, test = (
            self.select(
                "FSDDDataset", split=split, held_out_speaker="bob", data_dir=self.root / "fsdd/recordings"
            ).utterances
            for split in ("train", "test")
        )
        self.assertEqual([{each.speaker for each in found} for found in (train, test)], [{"ann"}, {"bob"}])
        with self.assertRaisesRegex(DataError, "no held_out_speaker 'eve'; the speakers are ann, bob"):
            self.select("FSDDDataset", split="test", held_out_speaker="eve")

    def test_an4(self) -> None:
        trees.an4(self.root / "an4")
        found = self.select("AN4Dataset", split="train").utterances
        self.assertEqual([each.text for each in found], ["yes", "go", "rubout g m"])
        self.assertEqual((found[2].speaker, found[2].duration), ("mjwl", 0.5))
        self.assertEqual(
            [each.text for each in self.select("AN4Dataset", split="test").utterances], ["two six four", "help"]
        )

    def test_custom_directory(self) -> None:
        for name, extension in (("b", "mp3"), ("sub/a", "wav"), ("c", "ogg")):
            trees.noise(self.root / "audio" / f"{name}.{extension}")
        (self.root / "audio" / "._b.mp3").write_bytes(b"left by a Mac")
        (self.root / "audio" / "notes.txt").write_text("not a recording")
        texts = self.root / "transcriptions"
        (texts / "sub").mkdir(parents=True)
        (texts / "b.txt").write_text("Bé\n", encoding="utf-8-sig")
        (texts / "sub" / "a.txt").write_text("A")
        (texts / "c.txt").write_bytes(b"\xff\xfe")
        selection = self.select("CustomDirAudioDataset", audio_dir=self.root / "audio", transcription_dir=texts)
        found = {each.id: each.text for each in selection.utterances}
        self.assertEqual(found, {"b.mp3": "be", "c.ogg": None, "sub/a.wav": "a"})
        (texts / "b.txt").write_text("changed")
        selection = self.select("CustomDirAudioDataset", audio_dir=self.root / "audio", transcription_dir=texts)
        self.assertEqual(selection.utterances[0].text, "changed")
        for args, words in (
            ({"audio_dir": texts}, "no recordings"),
            ({"audio_dir": self.root / "x"}, "no such directory"),
        ):
            with self.assertRaisesRegex(DataError, words):
                self.select("CustomDirAudioDataset", **args)

    def test_custom_list_and_manifest(self) -> None:
        trees.noise(self.root / "a.wav", 0.5)
        objects = [{"path": "a.wav", "text": "A"}, {"path": "gone.wav", "text": "b"}, {"text": "no path"}]
        objects += [{"path": "a.wav", "offset": number / 20} for number in range(8)]
        listed = self.select("CustomAudioDataset", data=objects, data_dir=self.root)
        durations = [(each.text, round(each.duration, 6)) for each in listed.utterances]
        self.assertEqual(
            durations, [("a", 0.5), ("b", 0.0), *[(None, round(0.5 - number / 20, 6)) for number in range(8)]]
        )
        self.assertEqual(listed.dropped, {"entry malformed": 1})
        (self.root / "m.jsonl").write_text('{"path": "a.wav", "text": "A", "duration": 9.5}\n')
        read = self.select("CustomAudioDataset", data=self.root / "m.jsonl")
        self.assertEqual((read.utterances[0].duration, read.utterances[0].audio_path), (9.5, str(self.root / "a.wav")))

    def test_wrong_filters(self) -> None:
        for name in ("limit", "max_audio_length", "max_text_length"):
            with self.assertRaisesRegex(ValueError, f"^{name}: expected a positive"):
                self.corpus("LJspeechDataset", **{name: 0})


class TestRecordings(CorpusCase):
    def test_all_folder_layouts(self) -> None:
        good, bad = trees.noise(self.root / "audio" / "a.wav"), self.root / "audio" / "b.flac"
        bad.write_bytes(b"")
        plain = find_recordings(self.root / "audio").utterances
        self.assertEqual(
            [(each.id, each.text, each.duration) for each in plain], [("a.wav", None, 0.5), ("b.flac", None, 0)]
        )
        (self.root / "transcriptions").mkdir()
        (self.root / "transcriptions" / "a.txt").write_text("As written.")
        self.assertEqual([each.text for each in find_recordings(self.root).utterances], ["As written.", None])
        alone = good.rename(self.root / "strange.name")
        self.assertEqual(find_recordings(alone).utterances[0].duration, 0.5)
        self.assertEqual(find_recordings(bad).utterances[0].duration, 0.0)

    def test_empty_folders(self) -> None:
        with self.assertRaisesRegex(DataError, "no such file or directory"):
            find_recordings(self.root / "gone")
        with self.assertRaisesRegex(DataError, "no recordings here or below"):
            find_recordings(self.root)


class TestDownloadedCorpora(CorpusCase):
    def setUp(self) -> None:
        super().setUp()
        context = fault_server()
        self.server = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def serve(self, directory: Path, name: str) -> bytes:
        content = trees.archived(directory, self.root / name).read_bytes()
        (self.root / name).unlink()
        self.server.files[f"/{name}"] = content
        return content

    def test_librispeech_is_downloaded_once(self) -> None:
        content = self.serve(trees.librispeech(self.root / "made", "dev-clean"), "dev-clean.tar.gz")
        self.server.faults["/dev-clean.tar.gz"] = [len(content) // 2]
        checksums = {"dev-clean": (hashlib.md5(content).hexdigest(), 0.0)}
        with mock.patch.dict(librispeech_module.PARTS, checksums):
            for _ in range(2):
                found = self.select("LibrispeechDataset", part="dev-clean", url=self.server.url)
                self.assertEqual(len(found.utterances), 12)
        self.assertEqual(len(self.server.requests), 2)
        directory = self.root / "librispeech"
        self.assertEqual([path.name for path in directory.iterdir() if not path.name.startswith(".")], ["dev-clean"])

    def test_a_wrong_archive_leaves_nothing(self) -> None:
        self.serve(trees.librispeech(self.root / "made", "dev-clean"), "dev-clean.tar.gz")
        with self.assertRaisesRegex(DownloadError, "md5"):
            self.select("LibrispeechDataset", part="dev-clean", url=self.server.url)
        self.assertFalse(any(path.suffix != ".lock" for path in (self.root / "librispeech").iterdir()))

    def test_other_corpora_are_downloaded(self) -> None:
        for module, kind, args, tree, name, number in (
            (ljspeech_module, "LJspeechDataset", {},
             trees.ljspeech(self.root / "m" / "LJSpeech-1.1"), "lj.tar.bz2", 20),
            (fsdd_module, "FSDDDataset", {"split": "test"},
             trees.fsdd(self.root / "m" / "free-spoken-digit-dataset-1.0.10"), "v1.0.10.zip", 20),
            (an4_module, "AN4Dataset", {"split": "test"}, trees.an4(self.root / "m" / "an4"), "an4.tar.gz", 2),
        ):  # fmt: skip
            with self.subTest(kind):
                content = self.serve(tree, name)
                sha256 = hashlib.sha256(content).hexdigest()
                archive = module.ARCHIVE._replace(url=f"{self.server.url}/{name}", sha256=sha256)
                with mock.patch.object(module, "ARCHIVE", archive):
                    self.assertIn("would be downloaded from http", self.corpus(kind, **args).status())
                    self.assertEqual(len(self.select(kind, **args).utterances), number)
                    self.assertIn(f"in {self.root}", self.corpus(kind, **args).status())


if __name__ == "__main__":
    unittest.main()
