"""Which recordings `test.py` transcribes: those given, or the splits of the config."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.folder import find_recordings
from hw_asr.errors import UserError
from hw_asr.experiment import components
from hw_asr.types import Utterance

logger = logging.getLogger(__name__)

MANIFESTS = (".jsonl", ".json", ".csv", ".tsv")


class Source(NamedTuple):
    """Recordings that are recognised together."""

    name: str
    utterances: list[Utterance]
    batch_size: int


def find_sources(
    options: argparse.Namespace, config: ExperimentConfig, normalize: Callable[[str], str]
) -> Iterator[Source]:
    """Yield the folder, file or manifest that was given, else the config's splits other than train."""
    splits = {name: split for name, split in config.data.items() if name != "train"}
    sizes = [split.batch_size for split in config.data.values() if split.batch_size]
    if options.folder is not None:
        batch_size = options.batch_size or next(iter(sizes), 8)
        yield Source(_name(options.folder), given_utterances(options.folder, normalize), batch_size)
        return
    if not splits:
        raise ConfigError(["data: no split other than train; give a folder with -t, or an overlay with -c"])
    for name, split in splits.items():
        corpora = components.build_corpora(config, name)
        utterances, dropped = components.select_utterances(corpora, normalize)
        warn_of_dropped(name, dropped)
        yield Source(name, utterances, options.batch_size or split.batch_size or next(iter(sizes), 8))


def given_utterances(path: Path, normalize: Callable[[str], str]) -> list[Utterance]:
    """Return the recordings of a folder, of one file, or of a manifest."""
    if path.suffix.lower() not in MANIFESTS or not path.is_file():
        return find_recordings(path).utterances
    selection = CustomAudioDataset(path).select(normalize)
    warn_of_dropped(str(path), selection.dropped)
    if not selection.utterances:
        raise UserError(f"{path}: no recordings in this manifest")
    return selection.utterances


def warn_of_dropped(name: str, dropped: Mapping[str, int]) -> None:
    """Log how many utterances of a split or manifest are left out, for each reason."""
    for reason, count in dropped.items():
        logger.warning("%s: %d left out: %s", name, count, reason)


def _name(path: Path) -> str:
    return path.name if path.name not in ("", "..") else path.resolve().name or str(path)
