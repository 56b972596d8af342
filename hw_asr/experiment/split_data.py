"""Loads a split of the config: its dataset and its batches."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from hw_asr.config import ExperimentConfig, Split
from hw_asr.datasets.manifest import DataError, consume, split_alignable
from hw_asr.datasets.samplers import RandomBatchSampler, SequentialBatchSampler, Shard
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.experiment import components
from hw_asr.runtime.processes import Processes
from hw_asr.types import EpochSampler, TextEncoder

logger = logging.getLogger(__name__)


def load_split(
    config: ExperimentConfig,
    split: str,
    text_encoder: TextEncoder,
    num_frames: Callable[[Sequence[float]], Sequence[int]] | None = None,
) -> SpeechDataset:
    """Select the utterances of a split; with `num_frames` (of seconds), leave out those too short for CTC.

    Raises DataError when nothing is left.
    """
    utterances, dropped = components.select_utterances(components.build_corpora(config, split), text_encoder.normalize)
    if num_frames is not None:
        utterances, unalignable = split_alignable(utterances, text_encoder, num_frames)
        dropped = dict(Counter(dropped) + unalignable)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    left_out = "".join(f"; {count} left out: {reason}" for reason, count in dropped.items())
    logger.info("%s: %d utterances, %.2f h%s", split, len(utterances), hours, left_out)
    if not utterances:
        raise DataError(f"data.{split}: no utterances left{left_out}")
    preprocessing = config.preprocessing
    max_hours = preprocessing.max_audio_hours
    return SpeechDataset(consume(utterances), text_encoder, preprocessing.sr, max_audio_hours=max_hours)


def make_sampler(
    split: Split, dataset: SpeechDataset, *, training: bool, seed: int, processes: Processes
) -> EpochSampler:
    """Return the sampler of a split: random batches for training, sorted ones for evaluation."""
    shard = Shard(dataset.durations, seed, processes.rank, processes.size)
    if split.batch_sampler is not None:
        if training:
            return components.build_batch_sampler(split.batch_sampler, shard)
        return _Share(components.build_batch_sampler(split.batch_sampler, Shard(dataset.durations, seed)), processes)
    kind = RandomBatchSampler if training else SequentialBatchSampler
    return kind(split.batch_size or 1, shard)


class _Share:
    """The batches of a sampler in turn, for evaluation: each belongs to one process, none is repeated."""

    def __init__(self, sampler: EpochSampler, processes: Processes) -> None:
        self._sampler, self._rank, self._size = sampler, processes.rank, processes.size

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        self._sampler.set_epoch(epoch, start_batch * self._size)

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self._sampler), self._rank, None, self._size)

    def __len__(self) -> int:
        return len(range(self._rank, len(self._sampler), self._size))
