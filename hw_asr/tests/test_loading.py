"""Dataset, collate and loader: bad recordings become failures; results do not depend on the workers."""

import gc
import logging
import os
import pickle
import signal
import tempfile
import unittest
from pathlib import Path

import numpy as np
import soundfile
import torch

from hw_asr.batch import Batch, Example, Failure
from hw_asr.datasets.collate import collate
from hw_asr.datasets.loader import SharedFlag, make_loader
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.samplers import RandomBatchSampler, SequentialBatchSampler, Shard
from hw_asr.datasets.samplers_by_duration import GroupLengthBatchSampler
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.text.encoder import CTCCharTextEncoder
from hw_asr.types import Utterance

RATE = 8000
ROOT = Path(__file__).resolve().parents[2]


class LoadingCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.encoder = CTCCharTextEncoder()

    def corpus(self, number: int, broken: tuple[int, ...] = ()) -> SpeechDataset:
        utterances = []
        for index in range(number):
            path = self.directory / f"ü {index}.wav"
            samples = np.random.default_rng(index).uniform(-0.5, 0.5, 400 + 100 * index)
            if index in broken:
                path.write_bytes(b"RIFF but no wave")
            else:
                soundfile.write(path, samples, RATE, subtype="FLOAT")
            text = None if index == 1 else "ab" * index
            utterances.append(Utterance(f"u{index}", str(path), text, len(samples) / RATE, None))
        return SpeechDataset(utterances, self.encoder, RATE)


class TestDataset(LoadingCase):
    def test_items_are_examples_or_failures(self) -> None:
        dataset = self.corpus(4, broken=(2,))
        items = [dataset[index] for index in range(len(dataset))]
        self.assertEqual([type(item) for item in items], [Example, Example, Failure, Example])
        example, failure = items[3], items[2]
        assert isinstance(example, Example) and isinstance(failure, Failure)
        expected = np.random.default_rng(3).uniform(-0.5, 0.5, 700)
        np.testing.assert_allclose(example.samples.numpy(), expected, atol=1e-6)
        self.assertEqual(example.targets.tolist(), [1, 2] * 3)
        self.assertEqual(example.utterance, dataset.utterance(3))
        self.assertIn("ü 2.wav", failure.reason)
        self.assertEqual(dataset[1].targets.tolist(), [])

    def test_a_text_with_unknown_characters_is_a_failure(self) -> None:
        good = self.corpus(1).utterance(0)
        item = SpeechDataset([good._replace(text="a?")], self.encoder, RATE)[0]
        assert isinstance(item, Failure)
        self.assertIn("'?'", item.reason)

    def test_utterances_come_back_as_they_were(self) -> None:
        odd = Utterance("ид 'x'\n", os.fsdecode(b"a\xff/b.wav"), "x", 1 / 3, "ß")
        dataset = SpeechDataset([odd, odd._replace(speaker=None, text=None)], self.encoder, RATE)
        self.assertEqual(dataset.utterance(0), odd)
        self.assertEqual(pickle.loads(pickle.dumps(dataset)).utterance(1), odd._replace(speaker=None, text=None))

    def test_memory_is_a_block_not_objects(self) -> None:
        utterances = [Utterance(f"{i}", f"{i}.wav", "some text", 1.0, None) for i in range(20_000)]
        dataset = SpeechDataset(utterances, self.encoder, RATE)
        del utterances
        gc.collect()
        before = len(gc.get_objects())
        for index in range(0, 20_000, 7):
            dataset.utterance(index)
        gc.collect()
        self.assertLess(abs(len(gc.get_objects()) - before), 200)
        self.assertLess(len(pickle.dumps(dataset)), 100 * 20_000)


class TestCollate(LoadingCase):
    def test_padding_and_lengths(self) -> None:
        dataset = self.corpus(4, broken=(2,))
        batch = collate([dataset[index] for index in (3, 2, 0, 1)])
        self.assertEqual([utterance.id for utterance in batch.utterances], ["u3", "u0", "u1"])
        self.assertEqual([failure.utterance.id for failure in batch.failures], ["u2"])
        self.assertEqual(batch.sample_lengths.tolist(), [700, 400, 500])
        self.assertEqual(batch.target_lengths.tolist(), [6, 0, 0])
        self.assertEqual((batch.samples.shape, batch.targets.shape), ((3, 700), (3, 6)))
        self.assertEqual((batch.samples.dtype, batch.targets.dtype), (torch.float32, torch.int64))
        for row, length in zip(batch.samples, batch.sample_lengths.tolist(), strict=True):
            self.assertEqual(row[length:].abs().sum(), 0)
            self.assertGreater(row[:length].abs().min(), 0)
        np.testing.assert_array_equal(batch.samples[1, :400], dataset[0].samples)

    def test_a_batch_of_failures(self) -> None:
        dataset = self.corpus(2, broken=(0, 1))
        batch = collate([dataset[0], dataset[1]])
        self.assertEqual((len(batch), len(batch.failures)), (0, 2))
        self.assertEqual((batch.samples.shape, batch.sample_lengths.shape), ((0, 0), (0,)))
        self.assertEqual(len(batch.to(torch.device("cpu"))), 0)


class TestLoader(LoadingCase):
    def assert_same(self, first: list[Batch], second: list[Batch]) -> None:
        self.assertEqual([batch.utterances for batch in first], [batch.utterances for batch in second])
        for one, other in zip(first, second, strict=True):
            for name in ("samples", "sample_lengths", "targets", "target_lengths"):
                torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0)

    def test_the_number_of_workers_changes_nothing(self) -> None:
        dataset = self.corpus(23, broken=(4, 5))
        runs = []
        for num_workers in (0, 1, 3):
            sampler = GroupLengthBatchSampler(4, Shard(dataset.durations, seed=1), batches_per_group=2)
            loader = make_loader(dataset, sampler, num_workers)
            state = torch.get_rng_state(), np.random.get_state()[1].tolist()
            batches = list(loader)
            sampler.set_epoch(1, start_batch=2)
            batches += list(loader)
            self.assertEqual(len(batches), len(loader) * 2 - 2)
            self.assertTrue(torch.equal(state[0], torch.get_rng_state()))
            self.assertEqual(state[1], np.random.get_state()[1].tolist())
            runs.append(batches)
        self.assert_same(runs[0], runs[1])
        self.assert_same(runs[0], runs[2])
        self.assertEqual(sum(len(batch.failures) for batch in runs[0][:6]), 2)

    def test_an_epoch_can_be_abandoned(self) -> None:
        dataset = self.corpus(12)
        sampler = RandomBatchSampler(2, Shard(dataset.durations))
        loader = make_loader(dataset, sampler, 2)
        next(iter(loader))
        sampler.set_epoch(0)
        self.assert_same(list(loader), list(make_loader(dataset, sampler, 0)))

    def test_a_worker_that_dies_is_explained(self) -> None:
        dataset = self.corpus(40)
        loader = make_loader(dataset, SequentialBatchSampler(1, Shard(dataset.durations)), 1)
        batches = iter(loader)
        next(batches)
        # An Event would stay locked when a worker is killed while it looks at it, one time in some dozens.
        self.assertIsInstance(loader._iterator._workers_done_event, SharedFlag)
        os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)
        with self.assertRaisesRegex(DataError, "num_workers"):
            list(batches)


if __name__ == "__main__":
    logging.disable()
    unittest.main()
