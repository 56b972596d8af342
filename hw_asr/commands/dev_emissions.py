"""A checkpoint and a split to log-probabilities: the data that decoding is tuned on."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.datasets.loader import make_loader
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.errors import UserError, nearest
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.experiment.network import Network, load_network
from hw_asr.experiment.split_data import load_split
from hw_asr.lm.tuning.cached_emissions import CachedEmissions
from hw_asr.models.forward import emissions
from hw_asr.runtime.devices import choose_device, set_numerics, set_threads
from hw_asr.runtime.memory import explain_out_of_memory


class NoReferencesError(UserError):
    """A split without an utterance that has both audio and a text."""


class Model(NamedTuple):
    """A network on its device, and what identifies the checkpoint it was loaded from."""

    network: Network
    config: ExperimentConfig
    checkpoint: str


def origin(config: ExperimentConfig, split: str) -> tuple[str, ...]:
    """Return the names of a split and of the parts of its datasets. Raises ConfigError for an unknown split."""
    if split not in config.data:
        raise ConfigError([f"data: no split {split!r}{nearest(split, config.data)}"], "--split")
    args = [spec.get("args", {}) for spec in config.data[split].datasets]
    return (split, *(str(arguments[key]) for arguments in args for key in ("part", "split") if key in arguments))


_REMEDY = "delete the file to compute them again, name another file, or omit -r to use it as it is"


def is_dev(split: str) -> bool:
    """Whether a split is neither for training nor for testing, by its name."""
    return split != "train" and "test" not in split.lower()


def dev_split(config: ExperimentConfig) -> str:
    """Return the only dev split. Raises ConfigError when there is none or more than one."""
    names = [name for name in config.data if is_dev(name)]
    if len(names) != 1:
        found = f"candidates: {', '.join(names)}" if names else f"the config has {', '.join(config.data)}"
        raise ConfigError([f"which split is the dev set? {found}; give --split"], "--split")
    return names[0]


def fingerprint(checkpoint_path: Path) -> str:
    """Return a text that identifies a checkpoint, without reading all of it: its run, name, size and time."""
    status = checkpoint_path.stat()
    return f"{checkpoint_path.absolute().parent.name}/{checkpoint_path.name} {status.st_size} {status.st_mtime_ns}"


def compute(model: Model, split: str, batch_size: int) -> CachedEmissions:
    """Run the model over a split; utterances that cannot be read or have no text are left out.

    Raises NoReferencesError when none remain.
    """
    network, config = model.network, model.config
    device = next(network.model.parameters()).device
    set_threads(None, config.data[split].num_workers)
    dataset = load_split(config, split, network.text_encoder)
    sampler = SequentialBatchSampler(batch_size, Shard(dataset.durations))
    loader = make_loader(dataset, sampler, config.data[split].num_workers)
    log_probs, references = [], []
    progress = tqdm(total=len(dataset), desc=f"log-probabilities of {split}", unit="utterance", disable=None)
    with progress, explain_out_of_memory("use a smaller batch (-b) or --device cpu"):
        for emission in emissions(network.model, network.front_end, loader, device):
            for index, utterance in enumerate(emission.batch.utterances):
                if utterance.text:
                    row = emission.log_probs[index, : int(emission.lengths[index])]
                    log_probs.append(row.cpu().numpy().astype(np.float32))
                    references.append(utterance.text)
            progress.update(len(emission.batch) + len(emission.batch.failures))
    if not references:
        raise NoReferencesError(f"{split}: no utterance has a readable recording and a text; tune on another split")
    alphabet = tuple(network.text_encoder.alphabet)
    return CachedEmissions(log_probs, references, alphabet, origin(config, split), model.checkpoint)


def load_or_compute(args: argparse.Namespace, check: Callable[[tuple[str, ...]], None]) -> CachedEmissions:
    """Return the log-probabilities in the file `args.log_probs`, or compute them and write that file.

    `args`: resume, config, split, batch_size, device, log_probs, i_know, allowed_modules, trust_config. Refuses test
    data unless `i_know`. `check` is called with the network's alphabet before it runs.
    """
    path: Path | None = args.log_probs
    cached = _load(path, args) if path is not None and path.is_file() else None
    if cached is not None and args.resume is None:
        return cached
    state = load_checkpoint(args.resume)
    named = Named(args.config, trust=Trust(frozenset(args.allowed_modules), args.trust_config))
    config = for_evaluation(
        args.resume, named, lambda name: name != "train" and args.split in (None, name), state
    ).config
    split = args.split or (dev_split(config) if cached is None else cached.origin[0])
    if cached is not None:
        known = identify(args.resume, config, split), fingerprint(args.resume)  # older versions wrote the second
        if cached.checkpoint not in known:
            raise UserError(f"{path}: contains log-probabilities of other data or features; {_REMEDY}")
        return cached
    refuse_test(origin(config, split), args.i_know)
    device = choose_device(args.device, config.n_gpu)
    set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
    network = load_network(config, device, state["state_dict"], args.resume)
    check(tuple(network.text_encoder.alphabet))
    cached = compute(Model(network, config, identify(args.resume, config, split)), split, args.batch_size)
    if path is not None:
        cached.save(path)
    return cached


def identify(checkpoint_path: Path, config: ExperimentConfig, split: str) -> str:
    """Return the fingerprint of a checkpoint, and a digest of a split's recordings and features in the config."""
    described = {"data": config.data[split].datasets, "root_dir": config.root_dir, "features": config.preprocessing}
    return f"{fingerprint(checkpoint_path)} {hashlib.sha256(repr(described).encode()).hexdigest()[:16]}"


def _load(path: Path, args: argparse.Namespace) -> CachedEmissions:
    """Read a file of log-probabilities. Raises UserError for another file, or one of another checkpoint or split."""
    cached = CachedEmissions.load(path)
    refuse_test(cached.origin, args.i_know)
    if args.resume is not None and not f"{cached.checkpoint} ".startswith(f"{fingerprint(args.resume)} "):
        other = cached.checkpoint.split(" ")[0]
        raise UserError(f"{path}: contains log-probabilities of another checkpoint, {other!r}; {_REMEDY}")
    if args.resume is not None and args.split is not None and cached.origin[0] != args.split:
        raise UserError(f"{path}: contains the split {cached.origin[0]!r}, not {args.split!r}; name another file")
    return cached


def refuse_test(names: tuple[str, ...], allowed: bool) -> None:
    """Raise UserError when a split or a part of it is called test, unless that is `allowed`."""
    test_names = [name for name in names if "test" in name.lower()]
    if test_names and not allowed:
        raise UserError(
            f"split {names[0]!r} is test data ({', '.join(test_names)}): settings chosen on it make its result "
            "worthless; tune on a dev split, or add --i-know"
        )
