"""Exported graphs against torch: every model, every front end, any length and batch."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hw_asr.config import ExperimentConfig
from hw_asr.datasets.audio import read_audio
from hw_asr.experiment.network import Network
from hw_asr.exported.checks import OPERATORS
from hw_asr.exported.errors import ExportError
from hw_asr.exported.export import make_model, write_model
from hw_asr.exported.metadata import COMPUTED_FEATURES, LOG_PROB_LENGTHS, LOG_PROBS
from hw_asr.exported.runtime import OnnxWaveformModel, read_exported
from hw_asr.models.conformer import Conformer
from hw_asr.recognition.waveform_model import TorchWaveformModel
from hw_asr.tests.exported_case import MEL, deepspeech2, make_config, random_network

REAL_SPEECH = Path(__file__).resolve().parents[3] / "shared" / "data"
TOLERANCE = 1e-4
LENGTHS = [7, 3000, 0, 255, 256, 1111, 129]
BASELINE = {"type": "BaselineModel", "args": {"fc_hidden": 16}}
CONFORMER = {"dim": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 32, "kernel_size": 5}
MODELS: dict[str, dict[str, Any]] = {
    "bidirectional": deepspeech2(),
    "lookahead": deepspeech2(gru_config={"hidden_dims": [12, 10]}, lookahead_config={"future_time": 3}),
    "no batch norm": deepspeech2(gru_config={"hidden_dims": 9, "num_of_layers": 2, "use_batch_norm": False}),
    "one convolution": deepspeech2(cnn_config={"output_channels": 3, "filters": [5, 3], "stride": [3, 1]}),
    "self-conditioned": deepspeech2(intermediate_layers=[1], self_conditioning=True),
    "conformer": {"type": "Conformer", "args": CONFORMER},
    "self-conditioned conformer": {
        "type": "Conformer",
        "args": {**CONFORMER, "intermediate_layers": [1], "self_conditioning": True},
    },
    "baseline": BASELINE,
}
MELS = {"n_mels": 20, "n_fft": 256, "hop_length": 80}
SPECTROGRAMS: dict[str, dict[str, Any]] = {
    "mel": MEL,
    "slaney": {"type": "MelSpectrogram", "args": {**MELS, "norm": "slaney", "mel_scale": "slaney", "f_min": 50.0}},
    "power 1": {"type": "Spectrogram", "args": {"n_fft": 200, "hop_length": 80, "power": 1.0}},
    "not centred": {
        "type": "Spectrogram",
        "args": {"n_fft": 201, "win_length": 150, "hop_length": 70, "power": 0.5, "normalized": True, "center": False},
    },
    "two-sided": {
        "type": "Spectrogram",
        "args": {"n_fft": 64, "onesided": False, "normalized": "frame_length", "pad_mode": "constant"},
    },
    "mfcc": {"type": "MFCC", "args": {"n_mfcc": 13, "melkwargs": MELS}},
    "mfcc of logarithms": {"type": "MFCC", "args": {"n_mfcc": 13, "log_mels": True, "norm": None, "melkwargs": MELS}},
}


def make(config: ExperimentConfig, directory: Path, int8: bool = False) -> tuple[Network, OnnxWaveformModel]:
    """Return a random network and the same network exported, read back and loaded."""
    network = random_network(config)
    path = directory / "model.onnx"
    with torch.no_grad():
        write_model(make_model(network, config, int8), path)
    return network, OnnxWaveformModel(read_exported(path), network.text_encoder, num_threads=1)


def noise(lengths: list[int]) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(3)
    return [(0.1 * random.standard_normal(length)).astype(np.float32) for length in lengths]


class ExportCase(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_same(self, network: Network, exported: OnnxWaveformModel, recordings: list[NDArray[np.float32]]) -> None:
        expected = TorchWaveformModel(network, exported.sample_rate, torch.device("cpu")).batch(recordings)
        for found, wanted in zip(exported.batch(recordings), expected, strict=True):
            self.assertEqual(found.shape, wanted.shape)
            np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0)


class ParityTest(ExportCase):
    def test_every_model_at_any_length_and_batch(self) -> None:
        for name, arch in MODELS.items():
            network, exported = make(make_config(arch), self.folder)
            for lengths in ([0], [1], [5000], [0, 0], LENGTHS, [97 * number for number in range(32)]):
                with self.subTest(name, lengths=lengths):
                    self.assert_same(network, exported, noise(lengths))

    def test_every_front_end_and_normalisation(self) -> None:
        for name, spectrogram in SPECTROGRAMS.items():
            for normalize in ("none", "utterance", "global"):
                # The logarithm of magnitudes amplifies rounding; test it on powers only.
                log = spectrogram["type"] == "MelSpectrogram"
                config = make_config(BASELINE, spectrogram=spectrogram, normalize=normalize, log_spec=log)
                network, exported = make(config, self.folder)
                with self.subTest(name, normalize=normalize):
                    self.assert_same(network, exported, noise(LENGTHS))

    def test_samples_beyond_a_length_change_nothing(self) -> None:
        _, exported = make(make_config(deepspeech2()), self.folder)
        waveform = np.full((2, 4000), 0.7, np.float32)
        samples = noise([3000, 900])
        for row, own in zip(waveform, samples, strict=True):
            row[: len(own)] = own
        inputs = {"waveform": waveform, "lengths": np.array([3000, 900])}
        found, lengths = exported._run([LOG_PROBS, LOG_PROB_LENGTHS], inputs)
        for row, length, expected in zip(found, lengths, exported.batch(samples), strict=True):
            np.testing.assert_allclose(row[:length], expected, atol=1e-6, rtol=0)

    def test_real_speech(self) -> None:
        paths = sorted(REAL_SPEECH.rglob("*.flac"))[:7] or sorted(REAL_SPEECH.rglob("*.wav"))[:7]
        if not paths:
            self.skipTest("no real speech beside the repository")
        recordings = [read_audio(path, 16_000)[:160_000] for path in paths]
        for arch in (MODELS["bidirectional"], MODELS["conformer"]):
            for normalize in ("none", "utterance"):
                network, exported = make(make_config(arch, normalize=normalize), self.folder)
                with self.subTest(arch["type"], normalize=normalize):
                    self.assert_same(network, exported, recordings)
                    self.assert_same(network, exported, recordings[:1])

    def test_long_recordings_in_chunks(self) -> None:
        speech = np.zeros(3000, bool)
        speech[200:2600] = True
        samples = noise([16_000 * 60])[0]
        for normalize in ("none", "utterance", "global"):
            for spectrogram in (MEL, SPECTROGRAMS["mfcc"]):
                config = make_config(
                    deepspeech2(), spectrogram=spectrogram, normalize=normalize, log_spec=spectrogram is MEL
                )
                network, exported = make(config, self.folder)
                expected = TorchWaveformModel(network, 16_000, torch.device("cpu")).long(samples, 15.0, speech)
                found = np.concatenate(list(exported.long(samples, 15.0, speech)))
                with self.subTest(spectrogram["type"], normalize=normalize):
                    np.testing.assert_allclose(found, np.concatenate(list(expected)), atol=TOLERANCE, rtol=0)


class GraphTest(ExportCase):
    def test_heads_that_only_training_uses_cost_nothing(self) -> None:
        nodes = []
        for layers in ([], [1]):
            network = random_network(make_config(deepspeech2(intermediate_layers=layers)))
            nodes.append(len(make_model(network, make_config(deepspeech2())).graph.node))
        self.assertEqual(nodes[0], nodes[1])

    def test_the_operators_that_are_accepted_are_those_of_exports(self) -> None:
        configs = [make_config(arch, normalize="utterance") for arch in MODELS.values()]
        configs += [
            make_config(BASELINE, spectrogram=spectrogram, log_spec=False) for spectrogram in SPECTROGRAMS.values()
        ]
        used: set[str] = set()
        for config in configs:
            used |= {node.op_type for node in make_model(random_network(config), config, int8=True).graph.node}
        self.assertEqual(used, OPERATORS)

    def test_int8_is_small_close_and_independent_of_the_batch(self) -> None:
        config = make_config(deepspeech2(gru_config={"hidden_dims": [96, 96], "bidirectional": True}))
        _, exported = make(config, self.folder)
        size = (self.folder / "model.onnx").stat().st_size
        _, quantized = make(config, self.folder, int8=True)
        self.assertLess((self.folder / "model.onnx").stat().st_size, 0.55 * size)
        recordings = noise([6000, 8000])
        close = [
            np.abs(a - b).max() for a, b in zip(quantized.batch(recordings), exported.batch(recordings), strict=True)
        ]
        self.assertTrue(0 < max(close) < 0.1, close)
        alone = [quantized.batch([recording])[0] for recording in recordings]
        for row, expected in zip(quantized.batch(recordings), alone, strict=True):
            np.testing.assert_allclose(row, expected, atol=1e-5, rtol=0)

    def test_metadata_and_names_for_other_programs(self) -> None:
        config = make_config(deepspeech2())
        proto = make_model(random_network(config), config)
        props = {entry.key: entry.value for entry in proto.metadata_props}
        self.assertEqual(json.loads(props["alphabet"])[:3], ["^", "a", "b"])
        self.assertEqual((json.loads(props["sample_rate"]), json.loads(props["frame_rate"])), (16_000, 50.0))
        self.assertEqual(json.loads(props["config"])["arch"], config.raw["arch"])
        self.assertEqual([value.name for value in proto.graph.input], ["waveform", "lengths", "features"])
        self.assertEqual([value.name for value in proto.graph.output][:2], ["log_probs", "log_prob_lengths"])
        self.assertEqual(proto.graph.output[2].name, COMPUTED_FEATURES)
        onnx.checker.check_model(proto, full_check=True)

    def test_what_has_no_graph_is_named(self) -> None:
        class OwnModel(Conformer):
            """A model of a user."""

        config = make_config({"type": "Conformer", "args": CONFORMER})
        network = random_network(config)
        network.model.__class__ = OwnModel
        with self.assertRaisesRegex(ExportError, "^arch: OwnModel cannot be exported to ONNX; DeepSpeech2, Conformer"):
            make_model(network, config)
        wave = make_config(BASELINE, spectrogram={"type": "Waveform"}, log_spec=False)
        with self.assertRaisesRegex(ExportError, "^preprocessing.spectrogram: Waveform cannot be exported to ONNX"):
            make_model(random_network(wave), wave)

    def test_a_model_is_written_completely_or_not_at_all(self) -> None:
        proto = make_model(random_network(make_config(BASELINE)), make_config(BASELINE))
        target = self.folder / "file"
        target.write_text("")
        with self.assertRaisesRegex(ExportError, "file.model.onnx: cannot be written: "):
            write_model(proto, target / "model.onnx")
        write_model(proto, self.folder / "model.onnx")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["file", "model.onnx"])


if __name__ == "__main__":
    unittest.main()
