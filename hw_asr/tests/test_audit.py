"""The audit finds planted faults in a corpus of tones, continues after an interruption, and writes clean manifests."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import tempfile
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch

from hw_asr.alignment.audit import fit_of
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.cli.main import run
from hw_asr.commands.audit_run import Auditor, SpelledText
from hw_asr.commands.partial_results import PartialResults
from hw_asr.config import parse
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.recording import Recording
from hw_asr.experiment.network import Network, make_network
from hw_asr.loss import CTCLoss
from hw_asr.tests.test_beam_search import random_log_probs
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Utterance

LETTERS = "abcdefgh"
RATE = 8000
CONFIG: dict[str, Any] = {
    "name": "tones",
    "preprocessing": {
        "sr": RATE,
        "spectrogram": {"type": "MelSpectrogram", "args": {"n_fft": 256, "hop_length": 160, "n_mels": 32}},
    },
    "text_encoder": {"type": "CTCCharTextEncoder", "args": {"alphabet": LETTERS + " "}},
    "arch": {"type": "BaselineModel", "args": {"fc_hidden": 48}},
    "data": {"train": {"batch_size": 8, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "none.jsonl"}}]}},
    "optimizer": {"type": "Adam"},
    "trainer": {"epochs": 1, "monitor": "off"},
}


def spoken(text: str, generator: np.random.Generator) -> np.ndarray:
    """Return a text as tones of 0.1 s, one pitch for each letter and for the space, with pauses and noise."""
    pieces = [np.zeros(RATE // 10)]
    for letter in text:
        size = RATE // 10
        pitch = 300.0 * 1.32 ** (LETTERS + " ").index(letter)
        pieces += [0.3 * np.sin(2 * np.pi * pitch * np.arange(size) / RATE), np.zeros(RATE // 16)]
    samples = np.concatenate([*pieces, np.zeros(RATE // 10)])
    return (samples + 0.01 * generator.standard_normal(len(samples))).astype(np.float32)


def sentence(generator: random.Random) -> str:
    return " ".join("".join(generator.choices(LETTERS, k=generator.randint(2, 5))) for _ in range(4))


def train(network: Network, generator: np.random.Generator) -> None:
    """Train on sentences of tones."""
    draws, encoder = random.Random(1), network.text_encoder
    optimizer, loss_of = torch.optim.Adam(network.model.parameters(), 2e-2), CTCLoss()
    for _ in range(100):
        texts = [sentence(draws) for _ in range(8)]
        rows = [torch.from_numpy(spoken(text, generator)) for text in texts]
        labels = [torch.tensor(encoder.encode(text)) for text in texts]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        features, lengths = network.front_end(padded, torch.tensor(list(map(len, rows))))
        log_probs = network.model(features, lengths).log_softmax(-1)
        frames = network.model.transform_input_lengths(lengths)  # type: ignore[operator]
        targets = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True)
        loss = loss_of(log_probs, frames, targets, torch.tensor(list(map(len, labels)))).values.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class FitTest(unittest.TestCase):
    def test_the_loss_is_that_of_training(self) -> None:
        encoder = CTCCharTextEncoder("abc ")
        for seed, text in enumerate(("a", "ab cab", "cc  b", "abc abc abc")):
            log_probs = random_log_probs((30, 5), seed)
            labels = torch.tensor([encoder.encode(text)])
            expected = CTCLoss()(log_probs[None], torch.tensor([30]), labels, torch.tensor([len(text)]))
            fit = fit_of(log_probs.numpy(), text, encoder, 0.02)
            self.assertAlmostEqual(fit.loss, float(expected.values), places=4)
        too_long = fit_of(log_probs.numpy()[:3], "abc abc", encoder, 0.02)
        self.assertEqual(too_long.loss, math.inf)
        self.assertIsNone(too_long.to_dict()["loss"])
        silence = fit_of(log_probs.numpy(), "", encoder, 0.02)
        self.assertAlmostEqual(silence.loss, -float(log_probs[:, 0].sum()), places=4)


class CorpusTest(unittest.TestCase):
    NUM, PLANTED = 60, 3

    @classmethod
    def setUpClass(cls) -> None:
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.folder = Path(directory.name)
        generator, draws = np.random.default_rng(0), random.Random(0)
        torch.manual_seed(0)
        network = make_network(parse(CONFIG), torch.device("cpu"))
        train(network, generator)
        run_folder = cls.folder / "saved" / "models" / "tones" / "one"
        run_folder.mkdir(parents=True)
        (run_folder / "config.json").write_text(json.dumps(CONFIG))
        cls.checkpoint = run_folder / "model_best.pth"
        save_checkpoint({"arch": "BaselineModel", "state_dict": network.model.state_dict()}, cls.checkpoint)
        texts = [sentence(draws) for _ in range(cls.NUM)]
        rows = []
        for number, text in enumerate(texts):
            name = f"{number:02d}.wav"
            soundfile.write(cls.folder / name, spoken(text, generator), RATE)
            rows.append({"path": name, "text": text, "speaker": str(number % 4)})
        chosen = draws.sample(range(cls.NUM), 3 * cls.PLANTED)
        swapped, cut, foreign = (chosen[index::3] for index in range(3))
        for place, other in zip(swapped, swapped[1:] + swapped[:1], strict=True):
            rows[place]["text"] = texts[other]
        for place in cut:
            rows[place]["text"] = " ".join(texts[place].split()[:2])
        for place in foreign:
            rows[place]["text"] = "hab geh fad"
        for row in rows:
            row["text"] = row["text"].capitalize() + "!"
        cls.planted = {f"{place:02d}.wav" for place in chosen}
        cls.manifest = cls.folder / "corpus.jsonl"
        rows += [{"path": "missing.wav", "text": "abc"}, {"path": "62.wav", "id": "no text"}]
        cls.manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def audit(self, *arguments: str, code: int = 0) -> str:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            self.assertEqual(run("audit", ["-d", "cpu", *arguments]), code, output.getvalue())
        return output.getvalue()

    def test_planted_faults_are_the_worst(self) -> None:
        results, page = self.folder / "audit.json", self.folder / "audit.html"
        arguments = ["-r", str(self.checkpoint), "-t", str(self.manifest), "-o", str(results), "--report", str(page)]
        printed = self.audit(*arguments)
        self.assertIn("1 left out: no text", printed)
        self.assertIn("1 recordings cannot be read", printed)
        entries = json.loads(results.read_text())
        names = [Path(entry["audio_path"]).name for entry in entries]
        self.assertEqual(len(names), self.NUM + 1)
        self.assertEqual(names[0], "missing.wav")
        self.assertEqual(set(names[1 : 1 + len(self.planted)]), self.planted)
        losses = [entry["loss"] for entry in entries[1:]]
        self.assertEqual(losses, sorted(losses, reverse=True))
        self.assertTrue(entries[1]["not_spoken"] or entries[1]["extra_speech"])
        self.assertTrue(all(key in entries[-1] for key in ("cer", "alignment_confidence", "pred_text_argmax", "words")))
        self.assertIn('"loss":', page.read_text())
        self.check_manifests(results, losses[len(self.planted) - 1])

    def check_manifests(self, results: Path, worst: float) -> None:
        keep = self.folder / "clean" / "keep.jsonl"
        share = (len(self.planted) + 1) / (self.NUM + 1)
        for option, value in (("--max-loss", str(worst - 1e-3)), ("--drop-share", str(share))):
            printed = self.audit("--results", str(results), "--keep", str(keep), option, value)
            self.assertIn(f"{self.NUM - len(self.planted)} of {self.NUM + 1} utterances", printed)
            spelled = {Path(row["path"]).name: row["text"] for row in map(json.loads, keep.read_text().splitlines())}
            given = {row["path"]: row.get("text") for row in map(json.loads, self.manifest.read_text().splitlines())}
            self.assertEqual(spelled, {name: given[name] for name in spelled})
            utterances = CustomAudioDataset(keep).select(CTCCharTextEncoder(LETTERS + " ").normalize).utterances
            kept = {Path(utterance.audio_path).name for utterance in utterances}
            self.assertEqual(kept, {f"{number:02d}.wav" for number in range(self.NUM)} - self.planted)
            self.assertTrue(all(Path(utterance.audio_path).is_file() and utterance.text for utterance in utterances))
            self.assertEqual({utterance.speaker for utterance in utterances}, set("0123"))

    def test_an_interrupted_audit_continues(self) -> None:
        results = self.folder / "continued.json"
        arguments = ["-r", str(self.checkpoint), "-t", str(self.manifest), "-o", str(results), "-b", "8"]
        original, counts = Auditor.entries, list[int]()

        def entries(
            auditor: Auditor, utterances: Sequence[Utterance], recordings: Sequence[Recording]
        ) -> Iterator[dict[str, object]]:
            counts.append(len(utterances))
            if len(counts) == 4:
                raise KeyboardInterrupt
            return original(auditor, utterances, recordings)

        with mock.patch.object(Auditor, "entries", entries), self.assertRaises(KeyboardInterrupt):
            self.audit(*arguments)
        self.assertFalse(results.exists())
        counts += [0]  # no further interruption
        with mock.patch.object(Auditor, "entries", entries):
            self.assertIn("continuing after", self.audit(*arguments))
        self.assertEqual(sum(counts[5:]), self.NUM - sum(counts[:3]))
        self.assertEqual(len(json.loads(results.read_text())), self.NUM + 1)
        self.assertEqual([path.name for path in self.folder.glob(".*.partial")], [])

    def test_times_in_a_piece_are_those_of_the_recording(self) -> None:
        generator, offset = np.random.default_rng(2), 20.0
        piece = spoken("bad cab fed head gag", generator)
        soundfile.write(self.folder / "long.wav", np.concatenate([np.zeros(int(offset * RATE)), piece]), RATE)
        manifest, results = self.folder / "piece.jsonl", self.folder / "piece.json"
        row = {"path": "long.wav", "offset": offset, "duration": len(piece) / RATE, "text": "bad cab"}
        manifest.write_text(json.dumps(row) + "\n")
        self.audit("-r", str(self.checkpoint), "-t", str(manifest), "-o", str(results))
        (entry,) = json.loads(results.read_text())
        (extra,) = entry["extra_speech"]
        self.assertGreater(extra["start"], entry["words"][1]["end"])
        self.assertGreater(extra["start"], offset)

    def test_another_spelling_is_another_text(self) -> None:
        one, two = (Utterance("1", "a.wav", SpelledText.of(text, str.lower), 1.0) for text in ("Abc", "ABC"))
        with PartialResults(self.folder / "spelled.json", "key", overwrite=True) as partial:
            partial.add("audit", one, {})
            self.assertIsNotNone(partial.find("audit", one))
            self.assertIsNone(partial.find("audit", two))

    def test_errors(self) -> None:
        results, other = self.folder / "other.json", self.folder / "texts.jsonl"
        results.write_text('[{"audio_path": "a.wav"}]')
        other.write_text('{"path": "00.wav"}\n')
        model = ("-r", str(self.checkpoint))
        self.assertIn("not the result of an audit", self.audit("--results", str(results), code=1))
        self.assertIn("no utterance has a text", self.audit(*model, "-t", str(other), code=1))
        self.assertIn("no split 'trian'; did you mean 'train'", self.audit(*model, "--split", "trian", code=2))
        self.assertIn("--drop-share: expected", self.audit(*model, "--keep", "k", "--drop-share", "2", code=2))
        for arguments in ((), (*model, "--max-loss", "2"), (*model, "--keep", "k")):
            with self.subTest(arguments), self.assertRaises(SystemExit):
                self.audit(*arguments)


if __name__ == "__main__":
    unittest.main()
