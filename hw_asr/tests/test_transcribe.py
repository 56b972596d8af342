"""test.py end to end: real files, a real checkpoint, the written transcripts and the printed table."""

from __future__ import annotations

import json
import shutil
import unittest
from pathlib import Path

import numpy as np
import soundfile
import torch

from hw_asr.datasets.audio import read_audio
from hw_asr.models.forward import run_model
from hw_asr.tests.transcribe_case import TranscribeCase


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

    def test_without_any_reference_it_says_so(self) -> None:
        entries, printed = self.run_test("-t", str(self.audio))
        self.assertEqual(33, len(entries))
        self.assertIn("no references: transcripts only", printed)

    def test_broken_recordings_are_entries_and_do_not_end_the_run(self) -> None:
        folder = self.folder / "mixed"
        folder.mkdir()
        shutil.copy(self.audio / "00.opus", folder / "good.opus")
        (folder / "empty.wav").write_bytes(b"")
        (folder / "text.flac").write_text("not audio")
        soundfile.write(folder / "short.wav", np.zeros(1, dtype=np.float32), 16000)
        entries, printed = self.run_test("-t", str(folder), code=3)
        found = {Path(entry["audio_path"]).name: entry for entry in entries}
        self.assertIn("pred_text_argmax", found["good.opus"])
        for name in ("empty.wav", "text.flac"):
            self.assertIn(name, found[name]["error"])
        self.assertEqual(
            2, printed.count("could not be read") + printed.count("recordings could not be read:"), printed
        )

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
            (["-t", str(self.audio), *alphabet], 1, "another architecture or alphabet"),
            ([], 2, "no split other than train"),
        ):
            with self.subTest(arguments=arguments):
                _, printed = self.run_test(*arguments, code=code)
                self.assertIn(expected, printed)
                self.assertNotIn("Traceback", printed)

    def test_long_recordings_are_recognised_in_pieces(self) -> None:
        samples = np.concatenate([read_audio(path, 16000) for path in sorted(self.audio.iterdir())[:16]])
        path = self.folder / "long.wav"
        soundfile.write(path, samples, 16000)
        whole, _ = self.run_test("-t", str(path), "--chunk-seconds", "100")
        pieces, _ = self.run_test("-t", str(path), "--chunk-seconds", "15")
        self.assertGreater(whole[0]["duration"], 20)
        from rapidfuzz.distance import Levenshtein

        texts = whole[0]["pred_text_argmax"], pieces[0]["pred_text_argmax"]
        self.assertLess(Levenshtein.distance(*texts), 0.01 * len(texts[0]))

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


if __name__ == "__main__":
    unittest.main()
