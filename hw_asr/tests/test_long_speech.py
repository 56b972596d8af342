"""Long real speech in chunks: networks that have learnt something, on a sonnet of 53 s."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein

from hw_asr.config import ExperimentConfig, parse
from hw_asr.datasets.collate import collate
from hw_asr.datasets.folder import recordings
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.experiment import components
from hw_asr.experiment.network import Network, make_network
from hw_asr.loss import CTCLoss
from hw_asr.models.forward import run_model
from hw_asr.recognition.recogniser import Recogniser
from hw_asr.types import Utterance

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "demo" / "corpus"
SONNET = ROOT.parent / "shared" / "data" / "small" / "audio" / "misc-en.flac"
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


def learnt_by_heart(network: Network, utterances: list[Utterance]) -> None:
    """Train a network until it knows a few utterances: it then hears letters, and silence, in any speech."""
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


@unittest.skipUnless(SONNET.is_file(), "needs ../shared/data/small")
class SonnetTest(unittest.TestCase):
    def setUp(self) -> None:
        rows = [json.loads(line) for line in (CORPUS / "test.jsonl").read_text(encoding="utf-8").splitlines()[:24]]
        self.known = [Utterance("", str(CORPUS / row["path"]), row["text"], row["duration"]) for row in rows]

    def transcribed(self, bidirectional: bool, *chunk_seconds: float) -> list[dict[str, Any]]:
        settings = config(bidirectional)
        network = make_network(settings, torch.device("cpu"))
        learnt_by_heart(network, self.known)
        specs = components.decoder_specs(settings, network.text_encoder, 10)
        decoders = components.build_decoders(specs, network.text_encoder, ["argmax", "beam_search"])

        network.model.register_forward_hook(lambda *_: self.assertFalse(torch.is_grad_enabled(), "memory grows"))

        def transcribe(utterances: list[Utterance], chunk: float) -> list[dict[str, Any]]:
            recogniser = Recogniser(network, decoders, 16_000, torch.device("cpu"), chunk)
            return recogniser.transcribe(utterances, batch_size=16, num_workers=0)[0]

        rates = [entry["cer"]["argmax"] for entry in transcribe(self.known, 60.0)]
        self.assertLess(sum(rates) / len(rates), 0.1, "the network has learnt nothing: what it says proves nothing")
        return [entry for chunk in chunk_seconds for entry in transcribe(recordings(SONNET), chunk)]

    def test_chunks_say_what_the_whole_says(self) -> None:
        for bidirectional in (True, False):
            with self.subTest(bidirectional=bidirectional):
                whole, *chunked = self.transcribed(bidirectional, 60.0, 15.0, 30.0)
                self.assertAlmostEqual(53.267, whole["duration"], places=2)
                self.assertGreater(len(whole["pred_text_argmax"]), 300)
                for entry in chunked:
                    for said, again in zip(texts(whole), texts(entry), strict=True):
                        allowed = 0.01 * len(said) if bidirectional else 0
                        self.assertLessEqual(Levenshtein.distance(said, again), allowed)
                    self.assertGreater(entry["words"][-1]["end"], 50)
                    if not bidirectional:
                        self.assertEqual(clock(whole), clock(entry))


def texts(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["pred_text_argmax"], entry["pred_text_beam_search"][0][0]


def clock(entry: dict[str, Any]) -> list[tuple[float, float]]:
    return [(word["start"], word["end"]) for word in entry["words"]]


if __name__ == "__main__":
    unittest.main()
