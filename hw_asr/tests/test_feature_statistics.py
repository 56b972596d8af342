"""`normalize: "global"`: measured once over the train split, the same on all processes, kept in checkpoints."""

from __future__ import annotations

import shutil
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import soundfile
import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import ConfigError
from hw_asr.experiment.validation import validate
from hw_asr.features import LOG_OFFSET, FeatureExtractor
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.tests.test_processes import BASELINE, ProcessesCase
from hw_asr.tests.training_case import RATE, TrainingCase, differences, make_config, run_dir


def statistics_of(state_dict: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return state_dict["feature_statistics.mean"], state_dict["feature_statistics.deviation"]


def expected_statistics(corpora: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation over all frames of the train split, computed in one piece."""
    transform = MelSpectrogram(RATE, n_fft=256, hop_length=128, n_mels=16)
    frames = []
    for path in sorted(corpora.glob("train-*.wav")):
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
        frames.append(torch.log(transform(samples) + LOG_OFFSET))
    features = torch.cat(frames, dim=1).double()
    return features.mean(1).float(), (features.std(1, unbiased=False) + LOG_OFFSET).float()


class GlobalNormalizationTest(unittest.TestCase):
    def test_features_are_scaled_by_the_statistics_and_do_not_depend_on_the_batch(self) -> None:
        plain = FeatureExtractor(MelSpectrogram(n_mels=8), log=True)
        scaled = FeatureExtractor(MelSpectrogram(n_mels=8), log=True, normalize="global")
        assert scaled.statistics is not None
        scaled.statistics.mean.copy_(torch.arange(8.0))
        scaled.statistics.deviation.copy_(torch.arange(1.0, 9.0))
        samples, lengths = torch.randn(2, 4000), torch.tensor([4000, 1500])
        samples[1, 1500:] = 0.0
        expected, frames = plain(samples, lengths)
        features, _ = scaled(samples, lengths)
        for row, reference, count in zip(features, expected, frames.tolist(), strict=True):
            wanted = (reference[:, :count] - torch.arange(8.0)[:, None]) / torch.arange(1.0, 9.0)[:, None]
            torch.testing.assert_close(row[:, :count], wanted)
            self.assertFalse(row[:, count:].any())

    def test_a_front_end_for_waveforms_refuses_normalisation(self) -> None:
        for kind in ("global", "utterance"):
            config = {
                "name": "x", "arch": {"type": "BaselineModel", "args": {}}, "data": {},
                "preprocessing": {"spectrogram": {"type": "Waveform", "args": {}}, "normalize": kind},
                "trainer": {"epochs": 1}, "optimizer": {"type": "SGD", "args": {"lr": 0.1}},
            }  # fmt: skip
            with self.assertRaisesRegex(ConfigError, f'Waveform does not support normalize "{kind}"; set'):
                validate(config)


class MeasuringTest(TrainingCase):
    def config(self, **trainer: Any) -> dict[str, Any]:
        config = super().config(**trainer)
        config["preprocessing"]["normalize"] = "global"
        return config

    def test_a_run_measures_once_and_keeps_the_statistics_in_its_checkpoints(self) -> None:
        place = self.place(self.config(epochs=2, ema_decay=0.9))
        self.train(place, "-c", "config.json")
        mean, deviation = expected_statistics(self.corpora)
        state = load_checkpoint(run_dir(place) / "last.pth")
        for weights in (state["state_dict"], state["training_state_dict"]):
            torch.testing.assert_close(statistics_of(weights), (mean, deviation), atol=1e-5, rtol=1e-5)

    def test_a_resumed_run_does_not_measure_again(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        corpora = Path(directory.name)
        shutil.copytree(self.corpora, corpora, dirs_exist_ok=True)
        config = make_config(corpora, epochs=1)
        config["preprocessing"]["normalize"] = "global"
        place = self.place(config)
        self.train(place, "-c", "config.json")
        last = run_dir(place) / "last.pth"
        before = statistics_of(load_checkpoint(last)["state_dict"])
        for path in corpora.glob("train-*.wav"):  # with these, a second measurement gives other values
            samples, rate = soundfile.read(path)
            soundfile.write(path, 0.1 * samples, rate)
        self.train(place, "-r", str(last), "--set", "trainer.epochs=2")
        state = load_checkpoint(last)
        self.assertEqual(state["epoch"], 2)
        self.assertEqual(differences(before, statistics_of(state["state_dict"])), [])

    def test_fine_tuning_keeps_the_statistics_of_the_weights(self) -> None:
        place = self.place(self.config(epochs=1))
        self.train(place, "-c", "config.json")
        path = run_dir(place) / "last.pth"
        state = load_checkpoint(path)
        other = self.config(epochs=1, wandb_run="tuned")
        other["data"]["train"]["datasets"] = other["data"]["val"]["datasets"]
        target = self.place(other)
        self.train(target, "-c", "config.json", "-r", str(path))
        tuned = load_checkpoint(target / "saved/models/tones/tuned/last.pth")
        self.assertEqual(differences(statistics_of(state["state_dict"]), statistics_of(tuned["state_dict"])), [])


class SeveralProcessesTest(ProcessesCase):
    def test_two_processes_measure_what_one_measures(self) -> None:
        config = self.plain_config(BASELINE, 4, epochs=1)
        config["preprocessing"]["normalize"] = "global"
        place = self.place(config)
        self.train_two(place, "-c", "config.json")
        found = statistics_of(load_checkpoint(run_dir(place) / "last.pth")["state_dict"])
        torch.testing.assert_close(found, expected_statistics(self.corpora), atol=1e-5, rtol=1e-5)


if __name__ == "__main__":
    unittest.main()
