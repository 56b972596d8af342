"""Batch samplers: properties over seeds, epochs and numbers of processes."""

import itertools
import unittest
from collections.abc import Callable, Sequence

import numpy as np

from hw_asr.config.registry import SAMPLERS
from hw_asr.datasets.samplers import (
    BatchSampler,
    RandomBatchSampler,
    SequentialBatchSampler,
    Shard,
    TrainingBatchSampler,
    padding_share,
)
from hw_asr.datasets.samplers_by_duration import DurationBatchSampler, GroupLengthBatchSampler
from hw_asr.experiment.components import PROVIDED, build_batch_sampler

DURATIONS = np.random.default_rng(1).gamma(4.0, 3.0, 997).clip(0.5, 35.0)
TRAINING: dict[str, Callable[[Shard], BatchSampler]] = {
    "random": lambda shard: RandomBatchSampler(20, shard),
    "group": lambda shard: GroupLengthBatchSampler(20, shard),
    "seconds": lambda shard: DurationBatchSampler(120.0, shard),
    "seconds, few": lambda shard: DurationBatchSampler(120.0, shard, max_batch_size=8, num_buckets=5),
}


class GroupsByFields(TrainingBatchSampler):
    """A user's sampler whose constructor takes the four values of a shard by their names."""

    def __init__(
        self, batch_size: int, durations: Sequence[float], seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(durations, seed, rank, world_size)
        self._inner = GroupLengthBatchSampler(batch_size, Shard(durations, seed), batches_per_group=5)

    def _num_global_batches(self) -> int:
        return len(self._inner)

    def _global_batches(self, random: np.random.Generator, epoch: int) -> list[np.ndarray]:
        self._inner.set_epoch(epoch)
        return [np.array(batch) for batch in self._inner]


def make(
    name: str, seed: int = 0, rank: int = 0, world_size: int = 1, durations: np.ndarray = DURATIONS
) -> BatchSampler:
    return TRAINING[name](Shard(durations, seed, rank, world_size))


def epoch_of(sampler: BatchSampler, epoch: int, start_batch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch, start_batch)
    return list(sampler)


class TestTrainingSamplers(unittest.TestCase):
    def test_every_utterance_once_an_epoch(self) -> None:
        for name, size in itertools.product(TRAINING, (1, 19, 20, 21, 997)):
            with self.subTest(name, size=size):
                sampler = make(name, durations=DURATIONS[:size])
                batches = epoch_of(sampler, 3)
                self.assertEqual(sorted(itertools.chain(*batches)), list(range(size)))
                self.assertEqual(len(batches), len(sampler))
                self.assertTrue(all(batches))

    def test_a_function_of_seed_and_epoch(self) -> None:
        for name in TRAINING:
            with self.subTest(name):
                used = make(name)
                epoch_of(used, 0)
                np.random.seed(5)
                self.assertEqual(epoch_of(used, 7), epoch_of(make(name), 7))
                self.assertNotEqual(epoch_of(used, 7), epoch_of(used, 8))
                self.assertNotEqual(epoch_of(used, 7), epoch_of(make(name, seed=1), 7))
                self.assertEqual(len({len(epoch_of(used, epoch)) for epoch in range(5)}), 1)

    def test_continuing_in_the_middle(self) -> None:
        for name, world_size in itertools.product(TRAINING, (1, 3)):
            with self.subTest(name, world_size=world_size):
                sampler = make(name, rank=world_size - 1, world_size=world_size)
                whole = epoch_of(sampler, 2)
                for start in (0, 1, len(whole) - 1, len(whole)):
                    self.assertEqual(epoch_of(sampler, 2, start), whole[start:])
                    self.assertEqual(len(sampler), len(whole))

    def test_processes_share_the_order_of_one(self) -> None:
        for name, world_size in itertools.product(TRAINING, (2, 3, 8)):
            with self.subTest(name, world_size=world_size):
                alone = epoch_of(make(name), 1)
                shares = [epoch_of(make(name, rank=rank, world_size=world_size), 1) for rank in range(world_size)]
                self.assertEqual({len(share) for share in shares}, {-(-len(alone) // world_size)})
                together = [batch for step in zip(*shares, strict=True) for batch in step]
                self.assertEqual(together[: len(alone)], alone)
                self.assertEqual(together[len(alone) :], alone[: len(together) - len(alone)])

    def test_batches_keep_their_bounds(self) -> None:
        for batch in epoch_of(make("group"), 0):
            self.assertLessEqual(len(batch), 20)
        for name, most in (("seconds", 997), ("seconds, few", 8)):
            for batch in epoch_of(make(name), 0):
                self.assertLessEqual(len(batch) * DURATIONS[batch].max(), 120.0 + 1e-9)
                self.assertLessEqual(len(batch), most)
        long = DurationBatchSampler(10.0, Shard([4.0, 25.0, 4.0, 3.0]))
        self.assertIn([1], epoch_of(long, 0))

    def test_similar_durations_waste_little(self) -> None:
        share = {name: padding_share(DURATIONS, epoch_of(make(name), 0)) for name in TRAINING}
        self.assertGreater(share["random"], 0.4)
        self.assertLess(share["group"], 0.1)
        self.assertLess(share["seconds"], 0.1)

    def test_batches_are_not_the_same_every_epoch(self) -> None:
        for name in TRAINING:
            first, second = ({tuple(sorted(batch)) for batch in epoch_of(make(name), epoch)} for epoch in (0, 1))
            self.assertLess(len(first & second), 0.1 * len(first), name)

    def test_short_first_sorts_the_first_epoch_only(self) -> None:
        for sampler in (
            GroupLengthBatchSampler(20, Shard(DURATIONS), short_first=True),
            DurationBatchSampler(120.0, Shard(DURATIONS), num_buckets=10, short_first=True),
        ):
            means = [DURATIONS[batch].mean() for batch in epoch_of(sampler, 0)]
            self.assertGreater(np.corrcoef(means, np.sort(means))[0, 1], 0.97)
            means = [DURATIONS[batch].mean() for batch in epoch_of(sampler, 1)]
            self.assertLess(np.corrcoef(means, np.sort(means))[0, 1], 0.5)

    def test_without_shuffling_the_order_is_kept(self) -> None:
        self.assertEqual(list(RandomBatchSampler(2, Shard([1.0] * 5), shuffle=False)), [[0, 1], [2, 3], [4]])

    def test_unknown_durations(self) -> None:
        for name in TRAINING:
            batches = epoch_of(make(name, durations=np.zeros(50)), 0)
            self.assertEqual(sorted(itertools.chain(*batches)), list(range(50)))

    def test_wrong_arguments(self) -> None:
        shard = Shard(DURATIONS)
        for key, build in (
            ("batch_size", lambda: RandomBatchSampler(0, shard)),
            ("batches_per_group", lambda: GroupLengthBatchSampler(1, shard, batches_per_group=0)),
            ("max_seconds", lambda: DurationBatchSampler(0.0, shard)),
            ("max_batch_size", lambda: DurationBatchSampler(9.0, shard, max_batch_size=0)),
            ("num_buckets", lambda: DurationBatchSampler(9.0, shard, num_buckets=0)),
            ("num_buckets", lambda: DurationBatchSampler(9.0, shard, num_buckets=10**9)),
            ("rank", lambda: RandomBatchSampler(1, Shard(DURATIONS, rank=2, world_size=2))),
        ):
            with self.assertRaisesRegex(ValueError, f"^{key}: "):
                build()

    def test_built_from_a_config(self) -> None:
        shard = Shard(DURATIONS, seed=3, rank=1, world_size=2)
        specs = (
            {"type": "GroupLengthBatchSampler", "args": {"batch_size": 20, "batches_per_group": 5}},
            {"type": "GroupsByFields", "module": __name__, "args": {"batch_size": 20}},
        )
        epochs = []
        for spec in specs:
            self.assertEqual(SAMPLERS.check(spec, "data.train.batch_sampler", PROVIDED["batch sampler"]), [])
            epochs.append(epoch_of(build_batch_sampler(spec, shard), 1))
        self.assertEqual(epochs[0], epoch_of(GroupLengthBatchSampler(20, shard, batches_per_group=5), 1))
        self.assertEqual(epochs[1], epochs[0])


class TestEvaluationSampler(unittest.TestCase):
    def test_nothing_is_lost_or_repeated(self) -> None:
        for size, world_size in itertools.product((1, 7, 64, 997), (1, 2, 3, 8)):
            shares = [
                list(SequentialBatchSampler(7, Shard(DURATIONS[:size], rank=rank, world_size=world_size)))
                for rank in range(world_size)
            ]
            seen = sorted(index for share in shares for batch in share for index in batch)
            self.assertEqual(seen, list(range(size)))
            counts = [sum(map(len, share)) for share in shares]
            self.assertLessEqual(max(counts) - min(counts), 1)

    def test_longest_first_and_little_padding(self) -> None:
        batches = list(SequentialBatchSampler(7, Shard(DURATIONS)))
        in_order = DURATIONS[list(itertools.chain(*batches))]
        np.testing.assert_array_equal(in_order, np.sort(DURATIONS)[::-1])
        self.assertLess(padding_share(DURATIONS, batches), 0.02)


class TestPaddingShare(unittest.TestCase):
    def test_by_hand(self) -> None:
        self.assertAlmostEqual(padding_share([1.0, 3.0, 2.0], [[0, 1], [2]]), 2 / 8)
        self.assertEqual(padding_share([1.0], [[0]]), 0.0)
        self.assertEqual(padding_share([], []), 0.0)


if __name__ == "__main__":
    unittest.main()
