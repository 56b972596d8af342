"""Long recordings in chunks, against the same network on the whole recording."""

from __future__ import annotations

import itertools
import unittest
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hw_asr.features import FeatureExtractor
from hw_asr.recognition.long_audio import feature_blocks, find_seam, overlapping, stitched
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.text.encoder import CTCCharTextEncoder

RATE = 1000
HOP = 10


class Recurrent(nn.Module):
    """A small CTC network over framed samples, with a stride of two frames and an odd padding, like the real ones."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv1d(HOP, 16, kernel_size=3, stride=2, padding=1)
        self.gru = nn.GRU(16, 16, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(32 if bidirectional else 16, 5)
        self.longest = 0

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        self.longest = max(self.longest, samples.shape[1])
        frames = samples.shape[1] // HOP + 1
        padded = nn.functional.pad(samples, (HOP // 2, frames * HOP - samples.shape[1]))
        features = padded[:, : frames * HOP].reshape(1, frames, HOP).transpose(1, 2)
        hidden = self.gru(self.conv(features).transpose(1, 2))[0]
        result: Tensor = (8 * self.out(hidden)).log_softmax(-1)[0]
        return result


def front_end(normalize: str, center: bool = True) -> FeatureExtractor:
    transform = MelSpectrogram(RATE, n_fft=64, hop_length=HOP, n_mels=8, center=center)
    return FeatureExtractor(transform, log=True, normalize=normalize)  # type: ignore[arg-type]


def cut(sequence: Tensor, size: int) -> Iterator[Tensor]:
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
                    samples = torch.randn(length, generator=torch.Generator().manual_seed(length))
                    for size in (700, 1_000_000):
                        blocks = stitched(cut(samples, size), network, 2 * HOP, 10_000, 4_000)
                        found = torch.cat(list(blocks))
                        self.assertLessEqual(network.longest, 10_000)
                        network.longest = 0
                        torch.testing.assert_close(found, network(samples[None]), atol=1e-4, rtol=0)
                        network.longest = 0

    def test_the_text_is_that_of_one_piece_although_chunks_disagree_in_time(self) -> None:
        encoder = CTCCharTextEncoder("ab ")
        generator = torch.Generator().manual_seed(0)
        path = torch.zeros(6000, dtype=torch.int64)
        for position in range(3, 5990, 4):
            path[position] = int(torch.randint(0, 4, (), generator=generator))
        samples = path.repeat_interleave(HOP).float()

        chunks = []

        def shifting(chunk: Tensor) -> Tensor:
            """Read the path off the samples: a frame late in every other chunk, and nothing near the ends."""
            frames = chunk[0, ::HOP].long().roll(len(chunks) % 2)
            chunks.append(len(frames))
            frames[:20], frames[-20:] = 0, 0
            return nn.functional.one_hot(frames, 4).float().mul(20).log_softmax(-1)

        found = torch.cat(list(stitched(cut(samples, 3_333), shifting, HOP, 5_000, 1_000)))
        expected = encoder.collapse(path[20:-20].tolist())
        self.assertGreater(len(chunks), 10)
        self.assertEqual(expected, encoder.collapse(found.argmax(-1).tolist()))

    def test_chunks_cover_everything_and_the_last_one_is_whole(self) -> None:
        for length in range(1, 400):
            sequence = torch.arange(length)
            for size in (7, 400):
                chunks = list(overlapping(cut(sequence, size), 100, 20, 10))
                for start, chunk in chunks:
                    self.assertEqual(0, start % 10)
                    torch.testing.assert_close(chunk, sequence[start : start + len(chunk)])
                self.assertEqual((0, length), (chunks[0][0], chunks[-1][0] + len(chunks[-1][1])))
                for (start, chunk), (next_start, next_chunk) in itertools.pairwise(chunks):
                    self.assertLess(start, next_start)
                    self.assertLessEqual(next_start, start + len(chunk) - 20)
                    self.assertGreater(len(next_chunk), 90)

    def test_the_seam_is_where_both_are_silent(self) -> None:
        probabilities = torch.full((40, 3), 0.1)
        probabilities[:, 1] = 0.8
        silent = probabilities.clone()
        silent[24:27] = torch.tensor([0.9, 0.05, 0.05])
        only_earlier = silent.clone()
        only_earlier[12:15] = torch.tensor([0.9, 0.05, 0.05])
        self.assertEqual(25, find_seam(only_earlier.log(), silent.log()))
        self.assertEqual(20, find_seam(probabilities.log(), probabilities.log()))
        self.assertEqual(0, find_seam(probabilities[:1].log(), probabilities[:1].log()))

    def test_too_long_an_overlap_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "overlap: expected more than 0 and less than half"):
            list(stitched([torch.zeros(100)], lambda each: each, 1, 10, 5))


class FeaturesTest(unittest.TestCase):
    def test_blocks_give_the_features_of_the_whole(self) -> None:
        for normalize in ("none", "utterance"):
            for center in (True, False):
                for length in (70, 1000, 2345, 5000):
                    with self.subTest(normalize=normalize, center=center, length=length):
                        extractor = front_end(normalize, center)
                        samples = torch.randn(length, generator=torch.Generator().manual_seed(length))
                        expected, _ = extractor(samples[None], torch.tensor([length]))
                        found = torch.cat(list(feature_blocks(samples, extractor, 500)), dim=1)
                        torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=1e-4)
                        self.assertEqual(normalize, extractor.normalize)

    def test_only_frames_that_count_are_normalised_over(self) -> None:
        extractor, samples = front_end("utterance"), torch.randn(5000)
        samples[2000:4000] = 0

        def counts(first: int, number: int) -> Tensor:
            frames = torch.arange(first, first + number)
            return (frames < 195) | (frames >= 405)

        found = torch.cat(list(feature_blocks(samples, extractor, 500, counts=counts)), dim=1)
        counted = found[:, counts(0, found.shape[1])]
        torch.testing.assert_close(counted.mean(dim=1), torch.zeros(8), atol=1e-4, rtol=0)
        torch.testing.assert_close(counted.std(dim=1, correction=0), torch.ones(8), atol=1e-3, rtol=0)
        self.assertLess(float(found[:, 200:400].mean()), -3)

    def test_features_and_network_together(self) -> None:
        torch.manual_seed(0)
        gru, out = nn.GRU(8, 12, batch_first=True, bidirectional=True), nn.Linear(24, 4)

        @torch.no_grad()
        def network(features: Tensor) -> Tensor:
            result: Tensor = out(gru(features[..., ::3].transpose(1, 2))[0]).log_softmax(-1)[0]
            return result

        extractor = front_end("utterance")
        samples = torch.randn(50_000)
        features = feature_blocks(samples, extractor, 2_000)
        found = torch.cat(list(stitched(features, network, 3, 1_500, 399)))
        whole = network(extractor(samples[None], torch.tensor([50_000]))[0])
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=0)


if __name__ == "__main__":
    unittest.main()
