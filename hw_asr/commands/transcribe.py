"""Transcribes recordings with a checkpoint: writes output.json, subtitles and a report, prints error rates."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from hw_asr.commands import score_table
from hw_asr.commands.entries import entry_of, failed_entry
from hw_asr.commands.output_files import check_directory, check_file, write_all_subtitles, write_entries, writing
from hw_asr.commands.partial_results import PartialResults, key_of
from hw_asr.commands.reading import ReadUtterance, read_batches, read_utterance
from hw_asr.commands.sources import Source, find_sources
from hw_asr.config import ConfigError, ExperimentConfig, Spec
from hw_asr.datasets.recording import AudioError, Damage, Recording
from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
from hw_asr.errors import UserError
from hw_asr.experiment.checkpoint_config import Named, Trust, for_evaluation
from hw_asr.recognition import loading
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.recognition.timing import Seconds
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.cores import available_cores
from hw_asr.runtime.memory import explain_out_of_memory
from hw_asr.types import Utterance

logger = logging.getLogger(__name__)

SOME_FAILED = 3
"""Exit code when some recordings could not be read."""


class NothingRecognisedError(UserError):
    """None of the recordings could be read."""


def run(options: argparse.Namespace) -> int:
    """Transcribe, write, print; return the exit code. Raises UserError for everything the user can correct."""
    set_up_logging(1)
    _check_options(options)
    checkpoint = loading.read_checkpoint(options.resume)
    named = Named(
        options.config, options.assignments, trust=Trust(frozenset(options.allowed_modules), options.trust_config)
    )
    config = for_evaluation(options.resume, named, _reads_split(options), checkpoint).config
    num_readers = _num_readers(options, config)
    num_threads = max(1, available_cores() - num_readers)
    model = loading.make_waveform_model(options.resume, checkpoint, config, options.device, num_threads)
    sources = list(find_sources(options, config, model.text_encoder.normalize))
    phrases = [phrase.strip() for phrase in (options.hotwords or "").split(",") if phrase.strip()]
    specs = loading.decoder_specs(config, model.text_encoder, phrases)
    settings = Settings(
        options.chunk_seconds, not options.keep_silence, max_audio_hours=config.preprocessing.max_audio_hours
    )
    recogniser = Recogniser(model, loading.make_decoders(specs, model.text_encoder), settings)
    partial = PartialResults(options.output, _key(options, config, specs), options.overwrite)
    if len(partial):
        logger.info("%s: continuing after %d results; --overwrite starts anew", partial.path, len(partial))
    run_of = _Run(recogniser, model, settings, partial, _Reading(num_readers, options.strict))
    entries: list[dict[str, object]] = []
    tables = []
    try:
        for source in sources:
            with explain_out_of_memory("use a smaller batch (-b), shorter pieces (--chunk-seconds), or --device cpu"):
                found, seconds = run_of.transcribe(source)
            tables.append(f"{source.name}: {len(found)} recordings\n{score_table.summary(found, seconds)}\n")
            entries += [{**entry, "split": source.name} for entry in found] if len(sources) > 1 else found
    except KeyboardInterrupt:
        logger.warning("interrupted: %d results are kept; run the same command again to continue", len(partial))
        raise
    finally:
        partial.close()
    write_entries(entries, options.output, f"; the results are kept in {partial.path}, run the same command again")
    partial.remove()
    _finish(options, entries, tables)
    failed = sum("error" in entry for entry in entries)
    if failed == len(entries):
        raise NothingRecognisedError(f"none of the {failed} recordings could be read; see {options.output}")
    return SOME_FAILED if failed else 0


def _finish(options: argparse.Namespace, entries: list[dict[str, object]], tables: list[str]) -> None:
    """Print the tables and write what was asked for besides output.json."""
    print("\n".join(tables))
    print(f"transcripts: {options.output}")
    for directory, suffix in ((options.srt, ".srt"), (options.vtt, ".vtt")):
        if directory is not None:
            write_all_subtitles(entries, directory, suffix)
            print(f"subtitles: {directory}")
    if options.report is not None:
        from hw_asr.report.page import write_report

        title = f"{options.resume.absolute().parent.name}/{options.resume.name}"
        with writing(options.report, "--report"):
            write_report(entries, options.report, title=title, totals={})
        print(f"report: {options.report}")


class _Reading(NamedTuple):
    """How recordings are read: on so many threads; damaged ones are refused if `strict`."""

    num_threads: int
    strict: bool


class _Run:
    """Transcribes sources with one recogniser, keeping every result as it comes."""

    def __init__(
        self,
        recogniser: Recogniser,
        model: WaveformModel,
        settings: Settings,
        partial: PartialResults,
        reading: _Reading,
    ) -> None:
        self._recogniser, self._model, self._settings = recogniser, model, settings
        self._partial, self._reading = partial, reading

    def transcribe(self, source: Source) -> tuple[list[dict[str, object]], Seconds]:
        """Return one entry per utterance, in their order, and the time taken for those that are new."""
        normalize = self._model.text_encoder.normalize
        utterances = [
            utterance._replace(text=None if utterance.text is None else normalize(utterance.text))
            for utterance in source.utterances
        ]
        entries = [self._partial.find(source.name, utterance) for utterance in utterances]
        spent = Seconds()
        total = sum(utterance.duration for utterance in utterances)
        with _Progress(source.name, total, len(utterances)) as progress:
            for utterance, entry in zip(utterances, entries, strict=True):
                if entry is not None:
                    progress.finish(utterance)
            missing = [index for index, entry in enumerate(entries) if entry is None]
            numbered = [utterances[index]._replace(id=str(index)) for index in missing]
            for numbered_utterance, entry in self._new_entries(numbered, source, spent, progress):
                index = int(numbered_utterance.id)
                self._partial.add(source.name, utterances[index], entry)
                entries[index] = entry
                progress.finish(utterances[index])
        return [entry for entry in entries if entry is not None], spent

    def _new_entries(
        self, utterances: Sequence[Utterance], source: Source, spent: Seconds, progress: _Progress
    ) -> Iterator[tuple[Utterance, dict[str, object]]]:
        """Transcribe long recordings one at a time, then the others in batches of similar durations."""
        limit = self._settings.chunk_seconds
        for utterance in utterances:
            if utterance.duration > limit and utterance.offset is None:
                yield utterance, self._long_entry(utterance, spent, progress)
        short = [utterance for utterance in utterances if utterance.duration <= limit or utterance.offset is not None]
        if not short:
            return
        sampler = SequentialBatchSampler(source.batch_size, Shard([utterance.duration for utterance in short]))
        batches = [[short[index] for index in batch] for batch in sampler]
        for batch in read_batches(batches, self._read, self._reading.num_threads):
            yield from self._batch_entries(batch, spent)

    def _batch_entries(
        self, batch: Sequence[ReadUtterance], spent: Seconds
    ) -> Iterator[tuple[Utterance, dict[str, object]]]:
        """Transcribe a batch; what is long although its header said otherwise goes through the network by itself."""
        for utterance, recording, reason in batch:
            if recording is None:
                yield utterance, failed_entry(utterance, reason)
        pairs = [(utterance, recording) for utterance, recording, _ in batch if recording is not None]
        short = [pair for pair in pairs if not self._recogniser.is_long(pair[1])]
        results = self._recogniser.recognise_batch([recording for _, recording in short], spent)
        for (utterance, _), result in zip(short, results, strict=True):
            yield utterance, entry_of(utterance, result)
        for utterance, recording in pairs:
            if self._recogniser.is_long(recording):
                yield utterance, entry_of(utterance, self._recogniser.recognise(recording, spent))

    def _read(self, utterance: Utterance) -> Recording:
        recording = read_utterance(utterance, self._model.sample_rate, self._settings.max_audio_hours)
        if self._reading.strict and recording.damage is not Damage.NONE:
            raise AudioError(f"{utterance.audio_path}: {recording.warning}")
        return recording

    def _long_entry(self, utterance: Utterance, spent: Seconds, progress: _Progress) -> dict[str, object]:
        try:
            recording = self._recogniser.read(utterance.audio_path)
        except UserError as error:
            return failed_entry(utterance, " ".join(str(error).split()))
        if self._reading.strict and recording.damage is not Damage.NONE:
            return failed_entry(utterance, f"{utterance.audio_path}: {recording.warning}")
        return entry_of(utterance, self._recogniser.recognise(recording, spent, progress.within))


class _Progress:
    """A bar over seconds of audio, with the number of recordings."""

    def __init__(self, name: str, seconds: float, num_recordings: int) -> None:
        layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}{postfix}]"
        self._bar = tqdm(total=seconds, desc=name, bar_format=layout, disable=None)
        self._finished, self._num_recordings, self._seconds = 0, num_recordings, 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def within(self, seconds: float) -> None:
        """Show that so many seconds of the current recording are done."""
        self._bar.n = self._seconds + seconds
        self._bar.refresh()

    def finish(self, utterance: Utterance) -> None:
        """Count a recording as done."""
        self._finished += 1
        self._seconds += utterance.duration
        self._bar.set_postfix_str(f"{self._finished}/{self._num_recordings} recordings", refresh=False)
        self._bar.n = self._seconds
        self._bar.update(0)


def _check_options(options: argparse.Namespace) -> None:
    faults = [
        f"--{name}: expected {least} or more, got {value}"
        for name, value, least in (("batch-size", options.batch_size, 1), ("jobs", options.jobs, 0))
        if value is not None and value < least
    ]
    if not options.chunk_seconds > loading.MIN_CHUNK_SECONDS:
        faults.append(f"--chunk-seconds: expected more than {loading.MIN_CHUNK_SECONDS}, got {options.chunk_seconds:g}")
    if faults:
        raise ConfigError(faults, "command line")
    inputs = options.resume, options.config, options.folder
    check_file(options.output, "--output", inputs, begins="[")
    if options.report is not None:
        if options.report.absolute() == options.output.absolute():
            raise ConfigError([f"--report: {options.report} is also the --output; give another name"], "command line")
        check_file(options.report, "--report", inputs, begins="<")
    for directory, option in ((options.srt, "--srt"), (options.vtt, "--vtt")):
        if directory is not None:
            check_directory(directory, option)


def _key(options: argparse.Namespace, config: ExperimentConfig, specs: dict[str, Spec]) -> str:
    """Return what must be the same for results of an earlier run to be used."""
    files = {"checkpoint": options.resume}
    for name, spec in specs.items():
        for argument, value in spec.get("args", {}).items():
            if isinstance(value, (str, Path)) and Path(value).is_file():
                files[f"{name}.{argument}"] = Path(value)
    parts = {
        "config": {key: value for key, value in config.raw.items() if key != "trainer"},
        "decoders": specs,
        "chunk_seconds": options.chunk_seconds,
        "keep_silence": options.keep_silence,
        "strict": options.strict,
    }
    return key_of(parts, files)


def _reads_split(options: argparse.Namespace) -> Callable[[str], bool]:
    """Return which splits of the config are read: none when recordings are given, else all but train."""
    return lambda name: options.folder is None and name != "train"


def _num_readers(options: argparse.Namespace, config: ExperimentConfig) -> int:
    if options.jobs is not None:
        return int(options.jobs)
    splits = [split for name, split in config.data.items() if options.folder is not None or name != "train"]
    return max((split.num_workers for split in splits), default=0)
