"""A checkpoint and a split to log-probabilities: what decoding is tuned on."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.weights import load_weights
from hw_asr.config import ConfigError, ExperimentConfig, overlay, read_json
from hw_asr.config.arguments import nearest
from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import SequentialBatchSampler
from hw_asr.errors import UserError
from hw_asr.experiment.network import make_network
from hw_asr.experiment.split_data import load_split
from hw_asr.experiment.validation import validate
from hw_asr.lm.tuning.cached_emissions import CachedEmissions
from hw_asr.models.forward import emissions
from hw_asr.runtime.processes import choose_device, set_threads
from hw_asr.storage.runs import Run


class NoReferencesError(UserError):
    """A split of which no utterance has both audio and a text."""


def origin(config: ExperimentConfig, split: str) -> tuple[str, ...]:
    """Return the names of a split and of the parts its data sets are made of; raises ConfigError when it is unknown."""
    if split not in config.data:
        raise ConfigError([f"data: no split {split!r}{nearest(split, config.data)}"], "--split")
    args = [spec.get("args", {}) for spec in config.data[split].datasets]
    return (split, *(str(each[key]) for each in args for key in ("part", "split") if key in each))


def read_config(checkpoint_path: Path, overlay_path: Path | None) -> ExperimentConfig:
    """Return the config of a checkpoint's run, under an overlay; raises ConfigError with all its faults."""
    path = Run.of_checkpoint(checkpoint_path).config_path
    raw = read_json(path)
    if overlay_path is not None:
        raw = overlay(raw, read_json(overlay_path))
    return validate(raw, str(path) if overlay_path is None else f"{path} with {overlay_path}", training=False)


def fingerprint(checkpoint_path: Path) -> str:
    """Return what tells a checkpoint from another one, without reading it whole."""
    status = checkpoint_path.stat()
    return f"{checkpoint_path.absolute().parent.name}/{checkpoint_path.name} {status.st_size} {status.st_mtime_ns}"


def compute(
    checkpoint_path: Path, config: ExperimentConfig, split: str, batch_size: int, device: str | None
) -> CachedEmissions:
    """Run the model over a split; utterances that cannot be read or have no text are left out.

    Raises NoReferencesError when none is left.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    chosen = choose_device(device, config.n_gpu)
    network = make_network(config, chosen)
    load_weights(network.model, checkpoint["state_dict"], checkpoint_path)
    set_threads(None, config.data[split].num_workers)
    dataset = load_split(config, split, network.text_encoder)
    sampler = SequentialBatchSampler(batch_size, dataset.durations.tolist())
    loader = make_loader(dataset, sampler, config.data[split].num_workers)
    log_probs, references = [], []
    with tqdm(total=len(dataset), desc=f"log-probabilities of {split}", unit="utterance", disable=None) as progress:
        for emission in emissions(network.model, network.front_end, loader, chosen):
            for index, utterance in enumerate(emission.batch.utterances):
                if utterance.text:
                    row = emission.log_probs[index, : int(emission.lengths[index])]
                    log_probs.append(row.cpu().numpy().astype(np.float32))
                    references.append(utterance.text)
            progress.update(len(emission.batch) + len(emission.batch.failures))
    if not references:
        raise NoReferencesError(f"{split}: no utterance has a readable recording and a text; nothing to tune on")
    alphabet = tuple(network.text_encoder.alphabet)
    return CachedEmissions(log_probs, references, alphabet, origin(config, split), fingerprint(checkpoint_path))


def load_or_compute(args: argparse.Namespace) -> CachedEmissions:
    """Return log-probabilities from `args.log_probs` if that is there, else from the model, and keep them there.

    `args`: resume, config, split, batch_size, device, log_probs, i_know. Refuses data that is called test.
    """
    path: Path | None = args.log_probs
    if path is not None and path.is_file():
        cached = CachedEmissions.load(path)
        refuse_test(cached.origin, args.i_know)
        if args.resume is not None and cached.checkpoint != fingerprint(args.resume):
            raise UserError(
                f"{path}: holds log-probabilities of another checkpoint, {cached.checkpoint.split(' ')[0]!r}; "
                "delete it to make it again, name another file, or leave out -r to use it as it is"
            )
        if args.resume is not None and cached.origin[0] != args.split:
            raise UserError(f"{path}: holds the split {cached.origin[0]!r}, not {args.split!r}; name another file")
        return cached
    config = read_config(args.resume, args.config)
    refuse_test(origin(config, args.split), args.i_know)
    cached = compute(args.resume, config, args.split, args.batch_size, args.device)
    if path is not None:
        cached.save(path)
    return cached


def refuse_test(names: tuple[str, ...], allowed: bool) -> None:
    """Raise UserError when a split or a part of it is called test, unless that is `allowed`."""
    found = [name for name in names if "test" in name.lower()]
    if found and not allowed:
        raise UserError(
            f"split {names[0]!r} is test data ({', '.join(found)}): what is chosen on it makes its result worthless; "
            "tune on a dev split, or say --i-know"
        )
