"""Networks piece by piece, against the whole recording: random shapes, random cuts, and the stated look-ahead."""

from __future__ import annotations

import unittest

import numpy as np
import torch

from hw_asr.experiment.network import Network
from hw_asr.features import FeatureExtractor
from hw_asr.models.conformer import Conformer
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig
from hw_asr.models.forward import run_model
from hw_asr.pretrained.waveform import Waveform
from hw_asr.spectrograms import MFCC, MelSpectrogram
from hw_asr.streaming.network import NetworkStream, Streamable, obstacle
from hw_asr.streaming.windows import Windows
from hw_asr.tests.streaming_case import random_cuts, random_network

CPU = torch.device("cpu")


def whole(network: Network, samples: np.ndarray) -> np.ndarray:
    """Return the log-probabilities by the way that training and evaluation take."""
    with torch.inference_mode():
        features, lengths = network.front_end(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        log_probs, out_lengths = run_model(network.model, features, lengths, "fp32")
    return log_probs[0, : int(out_lengths)].numpy()


class NetworkStreamTest(unittest.TestCase):
    def test_every_network_and_every_cut_give_the_log_probabilities_of_the_whole(self) -> None:
        generator = np.random.default_rng(0)
        for number in range(120):
            network = random_network(generator)
            length = int(generator.choice([0, 1, 7, 8, 15, 16, 17, 100, 101, 399, 2000, 9001]))
            samples = (0.3 * generator.standard_normal(length)).astype(np.float32)
            expected = whole(network, samples)
            stream = NetworkStream(Streamable.of(network.front_end, network.model), 8000, CPU)
            pieces = np.split(samples, random_cuts(generator, length))
            parts = [stream.push(piece) for piece in pieces] if number % 2 else []
            if parts:
                parts.append(stream.push(samples[:0], is_last=True))
            else:
                parts = [*map(stream.push, pieces[:-1]), stream.push(pieces[-1], is_last=True)]
            found = np.concatenate(parts)
            with self.subTest(number, length=length):
                self.assertEqual(found.shape, expected.shape)
                np.testing.assert_allclose(found, expected, atol=1e-4)
                np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-6)

    def test_a_frame_needs_the_stated_look_ahead_and_no_more(self) -> None:
        generator, num_checked = np.random.default_rng(1), 0
        for number in range(40):
            network = random_network(generator)
            parts = Streamable.of(network.front_end, network.model)
            samples = (0.3 * generator.standard_normal(6000)).astype(np.float32)
            expected = whole(network, samples)
            stride = int(np.prod([layer.stride[1] for layer in parts.model.cnn_block.block[::3]]))
            frame = int(generator.integers(0, len(expected)))
            known = frame * stride * parts.front_end.hop_length + parts.look_ahead
            if known >= 6000 - 2 * parts.front_end.n_fft:
                continue
            num_checked += 1
            changed = samples.copy()
            changed[known:] = generator.standard_normal(6000 - known)
            with self.subTest(number, frame=frame):
                np.testing.assert_allclose(whole(network, changed)[: frame + 1], expected[: frame + 1], atol=1e-4)
                stream = NetworkStream(parts, 8000, CPU)
                self.assertEqual(len(stream.push(samples[:known])), frame + 1)
                stream = NetworkStream(parts, 8000, CPU)
                self.assertLessEqual(len(stream.push(samples[: known - 1])), frame)
        self.assertGreater(num_checked, 20)

    def test_what_is_held_does_not_grow(self) -> None:
        network = random_network(np.random.default_rng(2))
        stream = NetworkStream(Streamable.of(network.front_end, network.model), 8000, CPU)

        def held() -> int:
            buffers = [stream._ahead, stream._features._windows, *(layer._windows for layer in stream._convolutions)]
            tensors = [stream._features._edge, *(each._held for each in buffers), *stream._states]
            return sum(each.untyped_storage().nbytes() for each in tensors if each is not None)

        sizes = []
        for _ in range(40):
            stream.push(np.random.default_rng(3).standard_normal(997).astype(np.float32))
            sizes.append(held())
        self.assertLess(max(sizes[20:]), 1.2 * max(sizes[:20]))


class WindowsTest(unittest.TestCase):
    def test_windows_are_those_of_unfold(self) -> None:
        generator = np.random.default_rng(0)
        for _ in range(200):
            size, step, before, after, length = (int(value) for value in generator.integers([1, 1, 0, 0, 0], 9))
            sequence = torch.randn(2, length)
            padded = torch.nn.functional.pad(sequence, (before, after))
            expected = padded.unfold(1, size, step) if padded.shape[1] >= size else padded.new_zeros(2, 0, size)
            windows, parts = Windows(size, step, before, after), []
            cuts = sorted(generator.integers(0, length + 1, 3).tolist())
            pieces = torch.tensor_split(sequence, cuts, dim=1)
            for index, piece in enumerate(pieces):
                covered = windows.push(piece, index == len(pieces) - 1)
                if covered is not None:
                    parts.append(covered.unfold(1, size, step))
            found = torch.cat(parts, 1) if parts else expected[:, :0]
            self.assertTrue(torch.equal(found, expected))


class ObstacleTest(unittest.TestCase):
    def test_what_cannot_stream_has_a_reason_and_advice(self) -> None:
        def model(bidirectional: bool) -> DeepSpeech2:
            return DeepSpeech2(8, 4, CNNConfig(2, (3, 3)), GRUConfig(4, bidirectional=bidirectional))

        mel = MelSpectrogram(n_mels=8)
        plain = FeatureExtractor(mel, log=True)
        cases = [
            (plain, model(True), "bidirectional: .* train one with gru_config.bidirectional false"),
            (FeatureExtractor(mel, log=True, normalize="utterance"), model(False), '"utterance" .* train .* "global"'),
            (FeatureExtractor(MFCC(n_mfcc=8), log=False), model(False), "MFCC depend on the whole .* MelSpectrogram"),
            (plain, Conformer(8, 4, dim=16, num_layers=1), "Conformer needs the whole recording; train a DeepSpeech2"),
            (Waveform(), model(False), "Waveform depend on the whole recording"),
        ]
        for front_end, network, reason in cases:
            self.assertRegex(obstacle(front_end, network) or "", reason)
        self.assertIsNone(obstacle(FeatureExtractor(mel, log=True, normalize="global"), model(False)))


if __name__ == "__main__":
    unittest.main()
