"""Transcribes recordings with a checkpoint: writes output.json, subtitles and a report, prints error rates."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from hw_asr.commands import score_table
from hw_asr.commands.output_files import check_directory, check_file, reserved, writing
from hw_asr.commands.partial_results import PartialResults, key_of
from hw_asr.commands.recognition_model import make_model
from hw_asr.commands.sources import find_sources
from hw_asr.commands.subtitle_files import SubtitleFiles
from hw_asr.commands.transcribe_run import Reading, Transcriber
from hw_asr.config import ConfigError, ExperimentConfig, Spec
from hw_asr.config.registry import DECODERS
from hw_asr.errors import UserError
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.recognition import loading
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.cores import available_cores
from hw_asr.runtime.memory import explain_out_of_memory
from hw_asr.types import TextEncoder

SOME_FAILED = 3
"""Exit code when some recordings could not be read."""
KEPT = "; the results are kept, run the same command again"


class NothingRecognisedError(UserError):
    """None of the recordings could be read."""


def run(options: argparse.Namespace) -> int:
    """Transcribe, write, print; return the exit code. Raises UserError for everything the user can correct."""
    set_up_logging(1)
    _check_options(options)
    with reserved(options.output):
        entries = _transcribe(options)
    failed = sum("error" in entry for entry in entries)
    if failed == len(entries):
        raise NothingRecognisedError(f"none of the {failed} recordings could be read; see {options.output}")
    return SOME_FAILED if failed else 0


def _transcribe(options: argparse.Namespace) -> list[dict[str, object]]:
    """Transcribe, write everything that is requested, print the tables; return the entries."""
    checkpoint = loading.read_checkpoint(options.resume)
    named = Named(
        options.config, options.assignments, trust=Trust(frozenset(options.allowed_modules), options.trust_config)
    )
    config = for_evaluation(options.resume, named, _reads_split(options), checkpoint).config
    num_readers = _num_readers(options, config)
    num_threads = max(1, available_cores() - num_readers)
    model = make_model(options, checkpoint, config, num_threads)
    sources = list(find_sources(options, config, model.text_encoder.normalize))
    phrases = [phrase.strip() for phrase in (options.hotwords or "").split(",") if phrase.strip()]
    subtitles = _subtitles(options, model.text_encoder)
    recordings = [utterance.audio_path for source in sources for utterance in source.utterances]
    for files in () if options.overwrite else subtitles:
        files.check(recordings, options.output)
    specs = loading.decoder_specs(config, model.text_encoder, phrases)
    settings = Settings(
        options.chunk_seconds, not options.keep_silence, max_audio_hours=config.preprocessing.max_audio_hours
    )
    recogniser = Recogniser(model, loading.make_decoders(specs, model.text_encoder), settings)
    entries: list[dict[str, object]] = []
    tables = []
    with (
        PartialResults(options.output, _key(options, config, specs, model.text_encoder), options.overwrite) as partial,
        explain_out_of_memory("use a smaller batch (-b), shorter pieces (--chunk-seconds), or --device cpu"),
    ):
        transcriber = Transcriber(recogniser, model, settings, partial, Reading(num_readers, options.strict))
        for source in sources:
            new, seconds = transcriber.transcribe(source)
            tables.append(f"{source.name}: {len(new)} recordings\n{score_table.summary(new, seconds)}\n")
            entries += [{**entry, "split": source.name} for entry in new] if len(sources) > 1 else new
    partial.write(entries)
    print("\n".join(tables))
    print(f"transcripts: {options.output}")
    for files in subtitles:
        files.write(entries, KEPT)
        print(f"subtitles: {files.directory}")
    _write_report(options, entries)
    partial.delete()
    return entries


def _subtitles(options: argparse.Namespace, encoder: TextEncoder) -> list[SubtitleFiles]:
    """Return the subtitles that are requested."""
    separator = " " if " " in encoder.alphabet else ""
    directories = ((options.srt, ".srt"), (options.vtt, ".vtt"))
    return [SubtitleFiles(directory, suffix, separator) for directory, suffix in directories if directory is not None]


def _write_report(options: argparse.Namespace, entries: list[dict[str, object]]) -> None:
    if options.report is not None:
        from hw_asr.report.page import write_report

        title = f"{options.resume.absolute().parent.name}/{options.resume.name}"
        with writing(options.report, "--report", KEPT):
            write_report(entries, options.report, title=title, totals={})
        print(f"report: {options.report}")


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


def _key(options: argparse.Namespace, config: ExperimentConfig, specs: dict[str, Spec], encoder: TextEncoder) -> str:
    """Return the key of the partial results: a digest of everything that the transcripts depend on."""
    files = {"checkpoint": options.resume}
    for name, spec in specs.items():
        for argument, value in spec.get("args", {}).items():
            if isinstance(value, (str, Path)) and Path(value).is_file():
                files[f"{name}.{argument}"] = Path(value)
    uses_model = any(DECODERS.accepts(spec, "language_model") for spec in specs.values())
    if uses_model and hasattr(encoder, "language_model_path"):
        files["text_encoder"] = Path(encoder.language_model_path())
    parts = {
        "recordings": options.folder and str(options.folder.resolve()),
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
