"""Measures the mean and the deviation of each feature over the train split, for `normalize: "global"`."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.manifest import DataError
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.features import LOG_OFFSET, FrontEnd, length_mask
from hw_asr.runtime.processes import Processes

BATCH_SIZE = 16


@torch.no_grad()
def measure_statistics(front_end: FrontEnd, dataset: SpeechDataset, num_workers: int, processes: Processes) -> None:
    """Set `front_end.statistics` to those of a dataset, without augmentation.

    Every process reads its share; all of them get the same result. Recordings that cannot be decoded are left out.
    Raises DataError if none can be decoded.
    """
    statistics = front_end.statistics
    assert statistics is not None
    statistics.mean.zero_()  # with a deviation of 1 the front end returns plain features
    statistics.deviation.fill_(1.0)
    shard = Shard(dataset.durations, rank=processes.rank, world_size=processes.size)
    sampler = SequentialBatchSampler(BATCH_SIZE, shard)
    loader = make_loader(dataset, sampler, num_workers, pin_memory=processes.device.type == "cuda")
    sums = torch.zeros(3, front_end.n_feats, dtype=torch.float64, device=processes.device)
    hidden = None if processes.is_main else True
    for batch in tqdm(loader, desc="feature statistics", leave=False, disable=hidden, unit="batch"):
        if len(batch):
            on_device = batch.to(processes.device)
            sums += _sums(*front_end(on_device.samples, on_device.sample_lengths))
    count, total, squares = processes.sum_tensor(sums)
    if not bool(count.any()):
        raise DataError("data.train: no recording can be decoded, so the feature statistics cannot be measured")
    mean = total / count
    statistics.mean.copy_(mean)
    statistics.deviation.copy_((squares / count - mean.square()).clamp(min=0.0).sqrt() + LOG_OFFSET)


def _sums(features: Tensor, lengths: Tensor) -> Tensor:
    """Return the count, the sum and the sum of squares (3, F), float64, of the frames of features (B, F, T)."""
    mask = length_mask(lengths, features.shape[2], features.device)[:, None]
    values = features.double().masked_fill(~mask, 0.0)
    count = mask.sum().double().expand(features.shape[1])
    return torch.stack([count, values.sum((0, 2)), values.square().sum((0, 2))])
