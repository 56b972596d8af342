"""What test.py does: a checkpoint and recordings to output.json, a table and a report."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.commands import score_table
from hw_asr.config import ConfigError, ExperimentConfig, Spec
from hw_asr.datasets.folder import recordings
from hw_asr.errors import UserError
from hw_asr.experiment import components
from hw_asr.experiment.checkpoint_config import Named, Trust, for_evaluation
from hw_asr.experiment.network import Network, load_network
from hw_asr.recognition.recogniser import Recogniser
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.processes import choose_device, set_threads
from hw_asr.types import Utterance, Word

logger = logging.getLogger(__name__)


class NothingRecognisedError(UserError):
    """Not one recording could be read."""


class Source(NamedTuple):
    """Recordings that are recognised together."""

    name: str
    utterances: list[Utterance]
    batch_size: int
    num_workers: int


def run(options: argparse.Namespace) -> int:
    """Transcribe, write, print; return the exit code. Raises UserError for everything a person can mend."""
    set_up_logging(1)
    _check_options(options)
    checkpoint = load_checkpoint(options.resume)
    trust = Trust(frozenset(options.allowed_modules), options.trust_config)
    named = Named(options.config, options.assignments, trust=trust)
    reads_split = (lambda name: False) if options.folder is not None else (lambda name: name != "train")
    config = for_evaluation(options.resume, named, reads_split, checkpoint).config
    device = choose_device(options.device, config.n_gpu)
    network = load_network(config, device, checkpoint["state_dict"], options.resume)
    sources = list(_sources(options, config, network))
    set_threads(None, max(source.num_workers for source in sources))
    specs = _decoder_specs(config, network, options.hotwords)
    recogniser = Recogniser(
        network,
        components.build_decoders(specs, network.text_encoder),
        config.preprocessing.sr,
        device,
        options.chunk_seconds,
    )
    entries: list[dict[str, Any]] = []
    tables = []
    for source in sources:
        found, seconds = recogniser.transcribe(source.utterances, source.batch_size, source.num_workers, source.name)
        tables.append(f"{source.name}: {len(found)} recordings\n{score_table.table(found, seconds)}\n")
        entries += [{**entry, "split": source.name} for entry in found] if len(sources) > 1 else found
    with write_and_rename(options.output, "w") as file:
        json.dump(entries, file, indent=2, ensure_ascii=False)
    print("\n".join(tables))
    print(f"transcripts: {options.output}")
    for directory, suffix in ((options.srt, ".srt"), (options.vtt, ".vtt")):
        if directory is not None:
            _write_all_subtitles(entries, directory, suffix)
    if options.report is not None:
        from hw_asr.report.page import write_report

        title = f"{options.resume.absolute().parent.name}/{options.resume.name}"
        write_report(entries, options.report, title=title, totals={})
        print(f"report: {options.report}")
    if all("error" in entry for entry in entries):
        raise NothingRecognisedError(f"none of the {len(entries)} recordings could be read; see {options.output}")
    return 0


def _check_options(options: argparse.Namespace) -> None:
    faults = [
        f"--{name}: expected {least} or more, got {value}"
        for name, value, least in (("batch-size", options.batch_size, 1), ("jobs", options.jobs, 0))
        if value is not None and value < least
    ]
    if not options.chunk_seconds > 12:
        faults.append(f"--chunk-seconds: expected more than 12, got {options.chunk_seconds:g}")
    for name, path in (("output", options.output), ("report", options.report)):
        if path is not None and path.is_dir():
            faults.append(f"--{name}: {path} is a directory; expected a file name")
    if faults:
        raise ConfigError(faults, "command line")


def _sources(options: argparse.Namespace, config: ExperimentConfig, network: Network) -> Iterator[Source]:
    """Yield the folder that was given, else the config's splits other than train."""
    splits = {name: split for name, split in config.data.items() if name != "train"}
    sizes = [split.batch_size for split in config.data.values() if split.batch_size]
    if options.folder is not None:
        workers = max((split.num_workers for split in config.data.values()), default=0)
        jobs = workers if options.jobs is None else options.jobs
        utterances = recordings(options.folder)
        yield Source(options.folder.name, utterances, options.batch_size or next(iter(sizes), 8), jobs)
        return
    if not splits:
        raise ConfigError(["data: no split other than train; give a folder with -t, or an overlay with -c"])
    for name, split in splits.items():
        corpora = components.build_corpora(config, name)
        utterances, _ = components.select_utterances(corpora, network.text_encoder.normalize)
        jobs = split.num_workers if options.jobs is None else options.jobs
        yield Source(name, utterances, options.batch_size or split.batch_size or next(iter(sizes), 8), jobs)


def _decoder_specs(config: ExperimentConfig, network: Network, hotwords: str | None) -> dict[str, Spec]:
    """Return the config's decoders, the beam searches with the hotwords of the command line."""
    specs = components.decoder_specs(config, network.text_encoder, max(100, config.trainer.beam_size))
    if hotwords:
        phrases = [phrase.strip() for phrase in hotwords.split(",") if phrase.strip()]
        for name, spec in specs.items():
            if name in ("beam_search", "lm_beam_search"):
                specs[name] = {**spec, "args": {**spec.get("args", {}), "hotwords": phrases}}
    return specs


def _write_all_subtitles(entries: list[dict[str, Any]], directory: Path, suffix: str) -> None:
    """Write the subtitles of every recording under its own stem; numbers part recordings of one stem."""
    from hw_asr.report.subtitles import write_subtitles

    directory.mkdir(parents=True, exist_ok=True)
    used: dict[str, int] = {}
    for entry in entries:
        if "words" in entry:
            stem = Path(entry["audio_path"]).stem
            used[stem] = used.get(stem, 0) + 1
            name = stem if used[stem] == 1 else f"{stem}-{used[stem]}"
            write_subtitles([Word(**word) for word in entry["words"]], directory / f"{name}{suffix}")
    print(f"subtitles: {directory}")
