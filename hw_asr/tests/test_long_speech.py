"""A long recording in chunks: trained networks, on recordings of the demo joined to one of 52 s."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from rapidfuzz.distance import Levenshtein

from hw_asr.config import ExperimentConfig, parse
from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.collate import collate
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.experiment.network import Network, make_network
from hw_asr.loss import CTCLoss
from hw_asr.metrics import char_errors
from hw_asr.models.forward import run_model
from hw_asr.recognition.loading import make_decoders
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.recognition.results import Result
from hw_asr.recognition.waveform_model import TorchWaveformModel
from hw_asr.types import Utterance

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "demo" / "corpus"
SECONDS, RATE = 52, 16_000
STEPS = 60


def config(bidirectional: bool) -> ExperimentConfig:
    return parse({
        "name": "small",
        "preprocessing": {
            "spectrogram": {"type": "MelSpectrogram", "args": {"n_mels": 32, "hop_length": 160}},
            "normalize": "utterance",
        },
        "arch": {
            "type": "DeepSpeech2",
            "args": {
                "cnn_config": {"output_channels": [8], "filters": [[11, 11]], "stride": [[4, 4]]},
                "gru_config": {"hidden_dims": [64], "bidirectional": bidirectional},
            },
        },
        "data": {"train": {"batch_size": 1, "datasets": [{"type": "CustomAudioDataset", "args": {"data": "none"}}]}},
        "optimizer": {"type": "Adam"},
        "trainer": {"epochs": 1, "monitor": "off"},
    })  # fmt: skip


def overfit(network: Network, utterances: list[Utterance]) -> None:
    """Overfit a network to a few utterances: it then outputs letters, and blanks, for any speech."""
    dataset = SpeechDataset(utterances, network.text_encoder, 16_000)
    batch = collate([dataset[index] for index in range(len(dataset))])
    features, lengths = network.front_end(batch.samples, batch.sample_lengths)
    optimizer, loss = torch.optim.Adam(network.model.parameters(), lr=0.01), CTCLoss()
    network.model.train()
    for _ in range(STEPS):
        log_probs, out_lengths = run_model(network.model, features, lengths, "fp32")
        optimizer.zero_grad()
        loss(log_probs, out_lengths, batch.targets, batch.target_lengths).values.mean().backward()
        torch.nn.utils.clip_grad_norm_(network.model.parameters(), 10.0)
        optimizer.step()


class LongSpeechTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()]
        self.known = [Utterance("", str(CORPUS / row["path"]), row["text"], row["duration"]) for row in rows[:24]]
        speech = np.concatenate([read_audio(CORPUS / row["path"], RATE) for row in rows[24:60]])
        self.assertGreater(len(speech), SECONDS * RATE)
        self.long = Path(directory.name) / "long.flac"
        soundfile.write(self.long, speech[: SECONDS * RATE], RATE)

    def transcribed(self, bidirectional: bool, *chunk_seconds: float) -> list[Result]:
        settings = config(bidirectional)
        network = make_network(settings, torch.device("cpu"))
        overfit(network, self.known)
        network.model.register_forward_hook(lambda *_: self.assertFalse(torch.is_grad_enabled(), "memory grows"))
        model = TorchWaveformModel(network, 16_000, torch.device("cpu"))
        specs = {"argmax": {"type": "argmax"}, "beam_search": {"type": "beam_search", "args": {"beam_size": 10}}}
        decoders = make_decoders(specs, network.text_encoder)

        def transcribe(paths: list[str], chunk: float) -> list[Result]:
            return list(Recogniser(model, decoders, Settings(chunk, skip_silence=False)).transcribe(paths))

        known = transcribe([utterance.audio_path for utterance in self.known], 60.0)
        texts = [result.by_decoder["argmax"][0].text for result in known]
        references = [utterance.text or "" for utterance in self.known]
        rates = [char_errors(*pair).rate for pair in zip(references, texts, strict=True)]
        self.assertLess(sum(rates) / len(rates), 0.1, "the network has learnt nothing: its output proves nothing")
        return [result for chunk in chunk_seconds for result in transcribe([str(self.long)], chunk)]

    def test_chunks_and_segments_give_the_text_of_the_whole(self) -> None:
        for bidirectional in (True, False):
            with self.subTest(bidirectional=bidirectional):
                whole, *chunked = self.transcribed(bidirectional, 60.0, 15.0, 30.0)
                self.assertAlmostEqual(SECONDS, whole.duration, places=2)
                self.assertGreater(len(whole.text), 300)
                self.assertEqual(len(whole.segments), 1)
                for result in chunked:
                    self.assertGreater(len(result.segments), 1)
                    argmax, again = (each.by_decoder["argmax"][0].text.strip() for each in (whole, result))
                    added = Levenshtein.distance(argmax, again)
                    if not bidirectional:  # segments are joined with a space, which the network may not have emitted
                        self.assertEqual(argmax.replace(" ", ""), again.replace(" ", ""))
                        self.assertLess(added, len(result.segments))
                    self.assertLess(added, 0.01 * len(argmax))
                    self.assertLess(Levenshtein.distance(whole.text, result.text), 0.02 * len(whole.text))
                    self.assertGreater(result.words[-1].end, 50)


if __name__ == "__main__":
    unittest.main()
