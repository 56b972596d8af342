"""The lines that `train --check` prints about a run."""

from __future__ import annotations

from hw_asr.config import ExperimentConfig
from hw_asr.experiment.network import Network
from hw_asr.experiment.training_data import BatchedSplit
from hw_asr.streaming.network import look_ahead_seconds


def network_lines(config: ExperimentConfig, network: Network) -> list[str]:
    """Return what is trained, on which features, for which characters."""
    num_parameters = sum(parameter.numel() for parameter in network.model.parameters())
    frame_rate = config.preprocessing.sr / network.front_end.hop_length
    alphabet = network.text_encoder.alphabet
    return [
        f"experiment  {config.name}",
        f"model       {config.arch['type']}, {num_parameters:,} parameters",
        f"features    {config.preprocessing.spectrogram['type']}, {network.front_end.n_feats} values, "
        f"{frame_rate:g} frames/s",
        *_live_lines(network, config.preprocessing.sr),
        f"text        {len(alphabet)} classes: blank and {''.join(alphabet[1:])!r}",
    ]


def _live_lines(network: Network, sample_rate: int) -> list[str]:
    """Return the look-ahead of a network that can recognise live audio."""
    seconds = look_ahead_seconds(network.front_end, network.model, sample_rate)
    return [] if seconds is None else [f"live        yes, with a look-ahead of {seconds:.3f} s"]


def training_line(config: ExperimentConfig, train: BatchedSplit | None) -> str:
    """Return the length of the run and where it is written."""
    trainer = config.trainer
    num_batches = trainer.len_epoch or (len(train.sampler) if train is not None else None)
    steps = "one pass over the training data"
    if num_batches is not None:
        steps = f"{-(-num_batches // trainer.accumulate_grad_steps)} steps"
    return (
        f"training    {trainer.epochs} epochs of {steps}, {config.optimizer['type']}, {trainer.precision}\n"
        f"writes      {trainer.save_dir / 'models' / config.name}, {trainer.save_dir / 'log' / config.name}"
    )
