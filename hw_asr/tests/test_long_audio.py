"""Long recordings in chunks, against the same network on the whole recording."""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw_asr.features import FeatureExtractor
from hw_asr.recognition.long_audio import BlockFrontEnd, feature_blocks, find_seam, overlapping, stitched
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.text.encoder import CTCCharTextEncoder

RATE = 1000
HOP = 10
Array = NDArray[np.float32]


class Recurrent(nn.Module):
    """A small CTC network over framed samples, with a stride of two frames and an odd padding, like the real ones."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(HOP, 16, kernel_size=3, stride=2, padding=1)
        self.gru = nn.GRU(16, 16, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(32 if bidirectional else 16, 5)
        self.longest = 0

    def on_array(self, samples: Array) -> Array:
        result: Array = self(torch.from_numpy(samples)[None]).numpy()
        return result

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        self.longest = max(self.longest, samples.shape[-1])
        frames = samples.shape[1] // HOP + 1
        padded = nn.functional.pad(samples, (HOP // 2, frames * HOP - samples.shape[1]))
        features = padded[:, : frames * HOP].reshape(1, frames, HOP).transpose(1, 2)
        hidden = self.gru(self.conv(features).transpose(1, 2))[0]
        result: Tensor = (8 * self.out(hidden)).log_softmax(-1)[0]
        return result


def front_end(normalize: str, center: bool = True) -> FeatureExtractor:
    transform = MelSpectrogram(RATE, n_fft=64, hop_length=HOP, n_mels=8, center=center)
    return FeatureExtractor(transform, log=True, normalize=normalize)  # type: ignore[arg-type]


def in_blocks(extractor: FeatureExtractor) -> BlockFrontEnd:
    normalizes, extractor.normalize = extractor.normalize == "utterance", "none"

    def features(samples: Array) -> Array:
        result: Array = extractor(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))[0][0].numpy()
        return result

    return BlockFrontEnd(features, extractor.n_fft, extractor.hop_length, normalizes)


def noise(length: int) -> Array:
    return np.random.default_rng(length).standard_normal(length).astype(np.float32)


def cut(sequence: Array, size: int) -> Iterator[Array]:
    """Yield blocks of a sequence along its last dimension, of about `size`, no two of them equally long."""
    start, number = 0, 0
    while start < sequence.shape[-1]:
        number += 1
        yield sequence[..., start : start + size + number]
        start += size + number


class StitchingTest(unittest.TestCase):
    def test_a_network_with_memory_gives_what_it_gives_in_one_piece(self) -> None:
        for bidirectional in (False, True):
            for length in (1, 999, 10_001, 16_020, 16_500, 23_456, 30_001, 100_000):
                with self.subTest(bidirectional=bidirectional, length=length):
                    network = Recurrent(bidirectional)
                    samples = noise(length)
                    for size in (700, 1_000_000):
                        blocks = stitched(cut(samples, size), network.on_array, 2 * HOP, 10_000, 4_000)
                        found = np.concatenate(list(blocks))
                        self.assertLessEqual(network.longest, 10_000)
                        network.longest = 0
                        np.testing.assert_allclose(found, network.on_array(samples), atol=1e-4, rtol=0)
                        network.longest = 0

    def test_the_text_is_that_of_one_piece_although_chunks_disagree_in_time(self) -> None:
        encoder = CTCCharTextEncoder("ab ")
        generator = torch.Generator().manual_seed(0)
        path = torch.zeros(6000, dtype=torch.int64)
        for position in range(3, 5990, 4):
            path[position] = int(torch.randint(0, 4, (), generator=generator))
        samples = path.repeat_interleave(HOP).float().numpy()

        chunks = []

        def shifting(chunk: Array) -> Array:
            """Read the path off the samples: a frame late in every other chunk, and nothing near the ends."""
            frames = torch.from_numpy(chunk[::HOP]).long().roll(len(chunks) % 2)
            chunks.append(len(frames))
            frames[:20], frames[-20:] = 0, 0
            log_probs: Array = nn.functional.one_hot(frames, 4).float().mul(20).log_softmax(-1).numpy()
            return log_probs

        found = np.concatenate(list(stitched(cut(samples, 3_333), shifting, HOP, 5_000, 1_000)))
        expected = encoder.collapse(path[20:-20].tolist())
        self.assertGreater(len(chunks), 10)
        self.assertEqual(expected, encoder.collapse(found.argmax(-1).tolist()))

    def test_chunks_cover_everything_and_the_last_one_is_whole(self) -> None:
        for length in range(1, 400):
            sequence = np.arange(length, dtype=np.float32)
            for size in (7, 400):
                chunks = list(overlapping(cut(sequence, size), 100, 20, 10))
                for start, chunk in chunks:
                    self.assertEqual(0, start % 10)
                    np.testing.assert_array_equal(chunk, sequence[start : start + len(chunk)])
                self.assertEqual((0, length), (chunks[0][0], chunks[-1][0] + len(chunks[-1][1])))
                for (start, chunk), (next_start, next_chunk) in itertools.pairwise(chunks):
                    self.assertLess(start, next_start)
                    self.assertLessEqual(next_start, start + len(chunk) - 20)
                    self.assertGreater(len(next_chunk), 90)

    def test_the_seam_is_where_both_are_silent(self) -> None:
        probabilities = np.full((40, 3), 0.1, np.float32)
        probabilities[:, 1] = 0.8
        silent = probabilities.copy()
        silent[24:27] = [0.9, 0.05, 0.05]
        only_earlier = silent.copy()
        only_earlier[12:15] = [0.9, 0.05, 0.05]
        self.assertEqual(25, find_seam(np.log(only_earlier), np.log(silent)))
        self.assertEqual(20, find_seam(np.log(probabilities), np.log(probabilities)))
        self.assertEqual(0, find_seam(np.log(probabilities[:1]), np.log(probabilities[:1])))

    def test_too_long_an_overlap_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "overlap: expected more than 0 and less than half"):
            list(stitched([np.zeros(100, np.float32)], lambda chunk: chunk, 1, 10, 5))


class FeaturesTest(unittest.TestCase):
    def test_blocks_give_the_features_of_the_whole(self) -> None:
        for normalize in ("none", "utterance"):
            for center in (True, False):
                for length in (70, 1000, 2345, 5000):
                    with self.subTest(normalize=normalize, center=center, length=length):
                        extractor = front_end(normalize, center)
                        samples = noise(length)
                        expected, _ = extractor(torch.from_numpy(samples)[None], torch.tensor([length]))
                        found = np.concatenate(list(feature_blocks(samples, in_blocks(extractor), 500)), axis=1)
                        np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4, rtol=1e-4)

    def test_only_frames_that_count_are_normalised_over(self) -> None:
        extractor, samples = in_blocks(front_end("utterance")), noise(5000)
        samples[2000:4000] = 0

        def counts(first: int, number: int) -> NDArray[np.bool_]:
            frames = np.arange(first, first + number)
            result: NDArray[np.bool_] = (frames < 195) | (frames >= 405)
            return result

        found = np.concatenate(list(feature_blocks(samples, extractor, 500, counts)), axis=1)
        counted = found[:, counts(0, found.shape[1])]
        np.testing.assert_allclose(counted.mean(axis=1), np.zeros(8), atol=1e-4, rtol=0)
        np.testing.assert_allclose(counted.std(axis=1), np.ones(8), atol=1e-3, rtol=0)
        self.assertLess(float(found[:, 200:400].mean()), -3)

    def test_features_and_network_together(self) -> None:
        torch.manual_seed(0)
        gru, out = nn.GRU(8, 12, batch_first=True, bidirectional=True), nn.Linear(24, 4)

        @torch.no_grad()
        def network(features: Array) -> Array:
            rows = torch.from_numpy(np.ascontiguousarray(features[..., ::3].T))
            result: Array = out(gru(rows[None])[0]).log_softmax(-1)[0].numpy()
            return result

        extractor = front_end("utterance")
        samples = noise(50_000)
        whole = network(extractor(torch.from_numpy(samples)[None], torch.tensor([50_000]))[0][0].numpy())
        features = feature_blocks(samples, in_blocks(extractor), 2_000)
        found = np.concatenate(list(stitched(features, network, 3, 1_500, 399)))
        np.testing.assert_allclose(found, whole, atol=1e-4, rtol=0)


if __name__ == "__main__":
    unittest.main()
