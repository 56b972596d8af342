"""test.py end to end: real files, a real checkpoint, the written transcripts and the printed table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
import torch

from hw_asr.commands import transcribe
from hw_asr.config import parse
from hw_asr.datasets.audio import read_audio
from hw_asr.models.forward import run_model
from hw_asr.tests.transcribe_case import CONFIG, ROOT, TranscribeCase


class TranscribeTest(TranscribeCase):
    def test_batch_1_7_and_32_give_the_same_transcripts(self) -> None:
        alone, _ = self.run_test("-t", str(self.audio.parent), "-b", "1")
        self.assertEqual([f"{number:02d}.opus" for number in range(33)], [Path(e["audio_path"]).name for e in alone])
        self.assertGreater(len({entry["pred_text_argmax"] for entry in alone}), 20)
        for size, jobs in ((7, 0), (32, 1)):
            together, _ = self.run_test("-t", str(self.audio.parent), "-b", str(size), "-j", str(jobs))
            for one, other in zip(alone, together, strict=True):
                for key in ("audio_path", "pred_text_argmax", "ground_truth", "cer", "wer", "duration"):
                    self.assertEqual(one.get(key), other.get(key))
                first, second = (dict(entry["pred_text_beam_search"]) for entry in (one, other))
                self.assertEqual(list(first)[:1], list(second)[:1])
                for text in first.keys() & second.keys():
                    self.assertAlmostEqual(first[text], second[text], delta=1e-4 * first[text] + 1e-12)

    def test_logits_in_any_company_and_order(self) -> None:
        samples = [torch.from_numpy(read_audio(path, 16000)) for path in sorted(self.audio.iterdir())[:32]]
        alone = [self.log_probs([each])[0] for each in samples]
        for size in (7, 32):
            order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(size)).tolist()
            for start in range(0, len(samples), size):
                chosen = order[start : start + size]
                for index, found in zip(chosen, self.log_probs([samples[index] for index in chosen]), strict=True):
                    torch.testing.assert_close(found, alone[index], atol=1e-4, rtol=0)

    def log_probs(self, batch: list[torch.Tensor]) -> list[torch.Tensor]:
        lengths = torch.tensor([len(each) for each in batch])
        padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        with torch.no_grad():
            features, frames = self.network.front_end(padded, lengths)
            found, sizes = run_model(self.network.model, features, frames, "fp32")
        return [row[:size] for row, size in zip(found, sizes.tolist(), strict=True)]

    def test_references_are_normalised_and_what_has_none_is_counted(self) -> None:
        entries, printed = self.run_test("-t", str(self.audio.parent))
        self.assertEqual(entries[0]["ground_truth"], entries[0]["ground_truth"].lower().strip("!"))
        self.assertNotIn("ground_truth", entries[32])
        self.assertNotIn("wer", entries[32])
        self.assertIn("1 of 33 recordings have no reference", printed)
        words = sum(len(entry["ground_truth"].split()) for entry in entries[:32])
        self.assertRegex(printed, rf"argmax .*{words}")

    def test_probability_is_that_of_ctc_loss_and_words_lie_inside(self) -> None:
        entries, _ = self.run_test("-t", str(self.audio / "03.opus"))
        entry = entries[0]
        log_probs = self.log_probs([torch.from_numpy(read_audio(self.audio / "03.opus", 16000))])[0].double()
        for text, probability in entry["pred_text_beam_search"]:
            target = torch.tensor([self.network.text_encoder.encode(text)])
            sizes = torch.tensor([len(log_probs)]), torch.tensor([target.shape[1]])
            loss = torch.nn.functional.ctc_loss(log_probs[:, None], target, *sizes, reduction="sum")
            self.assertAlmostEqual(float((-loss).exp()), probability, delta=1e-4 * probability)
        times = [time for word in entry["words"] for time in (word["start"], word["end"])]
        self.assertEqual(sorted(times), times)
        self.assertLessEqual(times[-1], entry["duration"])

    def test_without_references_a_few_transcripts_are_printed(self) -> None:
        entries, printed = self.run_test("-t", str(self.audio))
        self.assertEqual(33, len(entries))
        self.assertIn(" recordings without references; the transcripts are in the output file", printed)
        few = self.folder / "few"
        few.mkdir()
        for number in range(20):
            shutil.copy(self.audio / f"{number:02d}.opus", few)
        entries, printed = self.run_test("-t", str(few))
        for entry in entries:
            self.assertIn(
                f"{Path(entry['audio_path']).name}: {entry['pred_text_beam_search'][0][0].strip()}\n", printed
            )
        self.assertNotIn("WER", printed)

    def test_a_manifest_instead_of_a_folder(self) -> None:
        manifest = self.folder / "data" / "list.jsonl"
        rows = [{"path": f"audio/{number:02d}.opus", "text": "Some WORDS!", "speaker": "ann"} for number in range(3)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        entries, _ = self.run_test("-t", str(manifest))
        self.assertEqual([("some words", "ann")] * 3, [(each["ground_truth"], each["speaker"]) for each in entries])

    @unittest.skipUnless(sys.platform == "linux", "names of any bytes")
    def test_file_names_that_are_not_text(self) -> None:
        folder = self.folder / "names"
        folder.mkdir()
        name = os.fsdecode(b"caf\xe9.opus")
        shutil.copy(self.audio / "00.opus", folder / name)
        places = {option: str(self.folder / option[2:]) for option in ("--srt", "--vtt", "--report")}
        entries, _ = self.run_test("-t", str(folder), *(part for pair in places.items() for part in pair))
        self.assertEqual(str(folder / name), entries[0]["audio_path"])
        self.assertTrue((self.folder / "srt" / os.fsdecode(b"caf\xe9.srt")).is_file())
        self.assertTrue((self.folder / "report").is_file())

    def test_the_language_model_of_an_encoder_belongs_to_the_key(self) -> None:
        model = self.folder / "model.arpa"
        options = argparse.Namespace(
            resume=self.checkpoint, folder=None, chunk_seconds=60.0, keep_silence=False, strict=False
        )
        encoder, keys = mock.Mock(language_model_path=lambda: model), set()
        for text in ("one", "another"):
            model.write_text(text)
            keys.add(transcribe._key(options, parse(CONFIG), {"x": {"type": "lm_beam_search"}}, encoder))
        self.assertEqual(2, len(keys))

    def test_a_damaged_recording_has_a_warning_and_strict_refuses_it(self) -> None:
        folder = self.folder / "damaged"
        folder.mkdir()
        shutil.copy(self.audio / "00.opus", folder)
        path = folder / "cut.wav"
        for seconds in (2, 70):  # also one that is recognised in chunks
            soundfile.write(path, np.resize(read_audio(self.audio / "01.opus", 16000), seconds * 16000), 16000)
            path.write_bytes(path.read_bytes()[: round(0.9 * path.stat().st_size)])
            with self.subTest(seconds=seconds):
                entries, printed = self.run_test("-t", str(folder))
                entry = entries[1]
                self.assertIn("cut off", entry["warning"])
                self.assertTrue(entry["pred_text_argmax"])
                self.assertIn(f"cut.wav: {entry['warning']}", printed)
                self.assertNotIn("warning", entries[0])
                entries, printed = self.run_test("-t", str(folder), "--strict", code=3)
                self.assertIn("cut off", entries[1]["error"])
                self.assertNotIn("pred_text_argmax", entries[1])
                self.assertIn("1 of 2 recordings could not be read", printed)

    def test_silence_has_no_words(self) -> None:
        path = self.folder / "silence.wav"
        soundfile.write(path, 1e-3 * np.random.default_rng(0).standard_normal(70 * 16000), 16000)
        entries, printed = self.run_test("-t", str(path))
        self.assertEqual(("", [], []), (entries[0]["pred_text_argmax"], entries[0]["words"], entries[0]["segments"]))
        self.assertIn("silence.wav: (no speech)", printed)
        entries, _ = self.run_test("-t", str(path), "--keep-silence")
        self.assertTrue(entries[0]["pred_text_argmax"])

    def test_broken_recordings_are_entries_and_do_not_end_the_run(self) -> None:
        folder = self.folder / "mixed"
        folder.mkdir()
        shutil.copy(self.audio / "00.opus", folder / "good.opus")
        (folder / "empty.wav").write_bytes(b"")
        (folder / "zeros.ogg").write_bytes(bytes(100_000))
        (folder / "header.flac").write_bytes(b"fLaC" + bytes(range(60)))
        soundfile.write(folder / "short.wav", np.zeros(1, dtype=np.float32), 16000)
        entries, printed = self.run_test("-t", str(folder), code=3)
        found = {Path(entry["audio_path"]).name: entry for entry in entries}
        self.assertIn("pred_text_argmax", found["good.opus"])
        for name in ("empty.wav", "zeros.ogg", "header.flac"):
            self.assertIn(name, found[name]["error"])
        self.assertEqual(
            2, printed.count("could not be read") + printed.count("recordings could not be read:"), printed
        )

    def test_files_of_a_folder_that_are_not_audio_do_not_change_the_exit_status(self) -> None:
        folder = self.folder / "named like audio"
        folder.mkdir()
        page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body></body></html>" * 40
        image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + np.random.default_rng(0).bytes(5000)
        contents = {"плохо.wav": b"no audio", "sub/page.mp3": page, "photo.m4a": image}
        for name, content in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        _, printed = self.run_test("-t", str(folder), code=1)
        self.assertIn("no recordings here or below; left out: 3 neither audio nor video (photo.m4a, sub/page.", printed)
        shutil.copy(self.audio / "00.opus", folder / "zz.opus")
        entries, printed = self.run_test("-t", str(folder))
        self.assertEqual([str(folder / "zz.opus")], [entry["audio_path"] for entry in entries])
        self.assertIn("files left out: 3 neither audio nor video (photo.m4a, sub/page.mp3, плохо.wav)", printed)
        for name in contents:  # given by itself, or listed: a recording that cannot be read
            with self.subTest(name):
                self.assertIn("error", self.run_test("-t", str(folder / name), code=1)[0][0])
        rows = [{"path": "zz.opus"}, {"path": "плохо.wav"}]
        (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
        entries, _ = self.run_test("-t", str(folder / "list.jsonl"), code=3)
        self.assertEqual([False, True], ["error" in entry for entry in entries])

    def test_nothing_but_broken_recordings_is_an_error(self) -> None:
        folder = self.folder / "broken"
        folder.mkdir()
        (folder / "empty.wav").write_bytes(b"")
        entries, printed = self.run_test("-t", str(folder), code=1)
        self.assertIn("error", entries[0])
        self.assertNotIn("Traceback", printed)

    def test_bad_input_is_one_line(self) -> None:
        alphabet = ["--set", "text_encoder.type=CTCCharTextEncoder", "--set", "text_encoder.args.alphabet=abc"]
        for arguments, code, expected in (
            (["-t", "no/such/folder"], 1, "no/such/folder"),
            (["-t", str(self.audio), "-b", "0"], 2, "--batch-size: expected 1 or more, got 0"),
            (["-t", str(self.audio), "-c", "no.json"], 2, "no.json: no such file"),
            (["-t", str(self.audio), "-r", str(ROOT / "README.md")], 1, "README.md: not a checkpoint"),
            (["-t", str(self.audio), "-r", str(self.checkpoint.parent)], 1, "is a directory; give one of its checkp"),
            (["-t", str(ROOT / "README.md")], 1, "README.md"),
            (["-t", str(self.audio), *alphabet], 1, "another architecture or alphabet"),
            ([], 2, "no split other than train"),
        ):
            with self.subTest(arguments=arguments):
                _, printed = self.run_test(*arguments, code=code)
                self.assertIn(expected, printed)
                self.assertNotIn("Traceback", printed)

    def test_long_recordings_are_recognised_in_pieces(self) -> None:
        samples = np.concatenate([read_audio(path, 16000) for path in sorted(self.audio.iterdir())])
        path = self.folder / "long.wav"
        soundfile.write(path, samples, 16000)
        whole, _ = self.run_test("-t", str(path), "--chunk-seconds", "100")
        pieces, _ = self.run_test("-t", str(path), "--chunk-seconds", "15", "--srt", str(self.folder / "long"))
        self.assertGreater(whole[0]["duration"], 45)
        from rapidfuzz.distance import Levenshtein

        texts = whole[0]["pred_text_argmax"], pieces[0]["pred_text_argmax"]
        self.assertLess(Levenshtein.distance(*texts), 0.01 * len(texts[0]))
        segments = pieces[0]["segments"]
        self.assertGreater(len(segments), 1)
        beam = pieces[0]["pred_text_beam_search"][0][0]
        self.assertEqual(" ".join(segment["text"] for segment in segments), beam)
        times = [time for segment in segments for time in (segment["start"], segment["end"])]
        self.assertEqual(sorted(times), times)
        subtitles = re.sub("[^a-z]", "", (self.folder / "long" / "long.srt").read_text())
        self.assertIn(pieces[0]["words"][-1]["word"], subtitles)

    def test_pieces_of_a_recording_are_on_its_clock(self) -> None:
        parts = [read_audio(self.audio / f"{number:02d}.opus", 16000) for number in range(2)]
        folder = self.folder / "pieces"
        folder.mkdir()
        soundfile.write(folder / "both.wav", np.concatenate(parts), 16000, subtype="FLOAT")
        offset, rest = len(parts[0]) / 16000, len(parts[1]) / 16000
        rows = [{"audio_filepath": "both.wav", "offset": offset, "duration": rest}]
        soundfile.write(folder / "second.wav", parts[1], 16000, subtype="FLOAT")
        rows += [{"audio_filepath": "second.wav"}, {"audio_filepath": "both.wav", "offset": 99.0, "duration": 1.0}]
        (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (piece, alone, beyond), _ = self.run_test("-t", str(folder / "m.jsonl"), code=3)
        self.assertEqual(piece["pred_text_beam_search"], alone["pred_text_beam_search"])
        self.assertEqual((piece["offset"], "offset" in alone), (offset, False))
        self.assertGreater(len(alone["words"]), 0)
        for word, expected in zip(piece["words"], alone["words"], strict=True):
            self.assertAlmostEqual(word["start"], offset + expected["start"], places=2)
            self.assertAlmostEqual(word["end"], offset + expected["end"], places=2)
        self.assertIn("ends before the piece at 99 s", beyond["error"])

    def test_subtitles(self) -> None:
        self.run_test("-t", str(self.audio / "03.opus"), "--srt", str(self.folder / "srt"))
        self.assertIn(" --> ", (self.folder / "srt" / "03.srt").read_text())

    def test_without_spaces_every_character_is_a_word(self) -> None:
        checkpoint = self.folder / "saved" / "models" / "han" / "one" / "model_best.pth"
        checkpoint.parent.mkdir(parents=True)
        shutil.copy(self.checkpoint, checkpoint)
        alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + 27)))
        encoder = {"type": "CTCCharTextEncoder", "args": {"alphabet": alphabet}}
        (checkpoint.parent / "config.json").write_text(json.dumps({**CONFIG, "text_encoder": encoder}))
        path = self.folder / "han.wav"
        samples = [read_audio(self.audio / f"{number:02d}.opus", 16000) for number in range(12)]
        soundfile.write(path, np.concatenate(samples), 16000)
        entries, _ = self.run_test("-r", str(checkpoint), "-t", str(path), "--srt", str(self.folder / "han"))
        text = entries[0]["pred_text_beam_search"][0][0]
        self.assertEqual(list(text), [word["word"] for word in entries[0]["words"]])
        self.assertEqual(text, "".join(segment["text"] for segment in entries[0]["segments"]))
        lines = (self.folder / "han" / "han.srt").read_text(encoding="utf-8").splitlines()
        spoken = [line for line in lines if line and line[0] in alphabet]
        self.assertEqual(text, "".join(spoken))
        self.assertLessEqual(max(map(len, spoken)), 21)


if __name__ == "__main__":
    unittest.main()
