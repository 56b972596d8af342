"""The data of a training run: every split of the config, selected and divided into batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from hw_asr.batch import Batch
from hw_asr.config import ExperimentConfig
from hw_asr.datasets.collate import collate
from hw_asr.datasets.loader import SpeechLoader, make_loader
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.samplers import padding_share
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.experiment.network import Network
from hw_asr.experiment.split_data import load_split, make_sampler
from hw_asr.runtime.processes import Processes
from hw_asr.types import EpochSampler

logger = logging.getLogger(__name__)


class BatchedSplit(NamedTuple):
    """The utterances of a split and how they are batched."""

    dataset: SpeechDataset
    sampler: EpochSampler

    def loader(self, num_workers: int, device: torch.device) -> SpeechLoader:
        """Return the batches, in pinned memory where they go to a GPU."""
        return make_loader(self.dataset, self.sampler, num_workers, pin_memory=device.type == "cuda")


@dataclass(frozen=True)
class TrainingData:
    """The train split, of which utterances are left out that CTC cannot align, and the splits to evaluate on."""

    train: BatchedSplit
    evaluation: dict[str, BatchedSplit]

    @classmethod
    def load(cls, config: ExperimentConfig, network: Network, processes: Processes) -> TrainingData:
        """Download, index and select all splits; raises DataError for one that has no utterance."""
        train = load_train_split(config, network, processes)
        batches = list(train.sampler)
        padding = padding_share(train.dataset.durations.tolist(), batches)
        logger.info("train: %d batches, padding %.0f %%", len(train.sampler), 100 * padding)
        return cls(train, dict(_evaluation_splits(config, network, processes)))

    def longest_batch(self) -> Batch:
        """Return the batch that needs most memory in the first pass; raises DataError if none can be decoded."""
        durations = self.train.dataset.durations
        for batch in sorted(self.train.sampler, key=lambda batch: -len(batch) * float(durations[batch].max())):
            collated = collate([self.train.dataset[index] for index in batch])
            if len(collated) > 0:
                return collated
        raise DataError("data.train: no recording can be decoded")


def load_train_split(config: ExperimentConfig, network: Network, processes: Processes) -> BatchedSplit:
    """Return the train split with its sampler; raises DataError when no utterance is left."""

    def num_frames(durations: Sequence[float]) -> list[int]:
        """Return how many frames the model computes for recordings of these durations in seconds."""
        samples = torch.tensor([int(seconds * config.preprocessing.sr) for seconds in durations], dtype=torch.int64)
        frames = network.front_end.num_frames(samples)
        output_frames: list[int] = network.model.transform_input_lengths(frames).tolist()  # type: ignore[operator]
        return output_frames

    dataset = load_split(config, "train", network.text_encoder, num_frames)
    seed, split = config.trainer.seed, config.data["train"]
    return BatchedSplit(dataset, make_sampler(split, dataset, training=True, seed=seed, processes=processes))


def _evaluation_splits(
    config: ExperimentConfig, network: Network, processes: Processes
) -> Iterator[tuple[str, BatchedSplit]]:
    for name, split in config.data.items():
        if name != "train":
            dataset = load_split(config, name, network.text_encoder)
            sampler = make_sampler(split, dataset, training=False, seed=0, processes=processes)
            yield name, BatchedSplit(dataset, sampler)
