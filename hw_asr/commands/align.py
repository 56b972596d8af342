"""Aligns a text with a recording and writes the times of its words."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from hw_asr.alignment.formats import FORMATS, Options
from hw_asr.alignment.recordings import align_recording
from hw_asr.alignment.result import Alignment
from hw_asr.alignment.segments import Limits, cut_into_segments
from hw_asr.alignment.transcript import TranscriptError
from hw_asr.cli.errors import UsageError
from hw_asr.commands.output_files import check_file, print_content, relative_path, write_lines, writing
from hw_asr.commands.recognition_model import make_model
from hw_asr.config import ConfigError
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.recognition import loading
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.memory import explain_out_of_memory

logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Align, write and report; return 0. Raises UserError for everything the user can correct."""
    set_up_logging(1)
    text = _text(options)
    write = FORMATS[_format(options)]
    limits = _limits(options)
    inputs = options.resume, options.config, options.audio, options.transcript
    if options.output is not None:
        check_file(options.output, "--output", inputs)
    if options.segments is not None:
        if options.output is not None and options.output.absolute() == options.segments.absolute():
            raise UsageError(f"--segments: {options.segments} is also the --output; give another name")
        check_file(options.segments, "--segments", inputs, begins="{")
        check_file(_list_path(options.segments), "--segments", inputs, begins="{")
    recogniser = _recogniser(options)
    recording = recogniser.read(options.audio)
    seconds = len(recording.samples) / recogniser.sample_rate
    advice = "use shorter pieces (--chunk-seconds), or --device cpu"
    with explain_out_of_memory(advice), audio_bar(options.audio.name, seconds) as bar:
        alignment = align_recording(
            recogniser, recording, text, forced=options.forced, progress=lambda done: show(bar, done)
        )
    for warning in alignment.warnings:
        logger.warning("%s", warning)
    separator = " " if " " in recogniser.text_encoder.alphabet else ""
    if options.segments is not None:
        _write_segments(alignment, limits, separator, options)
    content = write(alignment, Options(options.audio.stem, options.characters, separator))
    if options.output is None and options.segments is None:
        print_content(content)
    elif options.output is not None:
        with writing(options.output, "--output"), write_and_rename(options.output) as file:
            file.write(content.encode("utf-8", "surrogateescape"))
    logger.info("%s", _summary(alignment))
    if not alignment.spoken:
        logger.warning("no word of the text was found; check that it is the text of this recording")
    return 0


def audio_bar(name: str, seconds: float) -> tqdm[NoReturn]:
    """Return a progress bar over seconds of audio."""
    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    return tqdm(total=seconds, desc=name, bar_format=layout, disable=None)


def show(bar: tqdm[NoReturn], seconds: float) -> None:
    """Let a bar show that so many seconds are done."""
    bar.update(max(0.0, min(seconds, bar.total) - bar.n))


def _text(options: argparse.Namespace) -> str:
    """Return the text to align. Raises UsageError without one and TranscriptError when its file cannot be read."""
    if (options.transcript is None) == (options.text is None):
        raise UsageError("give either a text file after the recording, or the text itself with --text")
    if options.text is not None:
        if any("\ud800" <= character <= "\udfff" for character in options.text):
            raise TranscriptError("--text: the text is not UTF-8; write it to a file in UTF-8 and give that instead")
        return str(options.text)
    path: Path = options.transcript
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TranscriptError(f"{path}: cannot read the text: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise TranscriptError(f"{path}: the text is not UTF-8; convert it, or give another file") from error


def _format(options: argparse.Namespace) -> str:
    """Return the format that is asked for, or that of the output's ending. Raises UsageError for another ending."""
    if options.format is not None:
        return str(options.format)
    if options.output is None:
        return "json"
    ending = options.output.suffix.lower().lstrip(".")
    if ending not in FORMATS:
        raise UsageError(
            f"-o {options.output}: unknown ending; expected one of .{', .'.join(FORMATS)}, or give --format"
        )
    return str(ending)


def _limits(options: argparse.Namespace) -> Limits:
    """Return the limits of segments. Raises ConfigError for values out of range."""
    faults = []
    if not 0 < options.min_seconds <= options.max_seconds < float("inf"):
        faults.append(
            f"--min-seconds, --max-seconds: expected 0 < minimum <= maximum, got {options.min_seconds:g} and "
            f"{options.max_seconds:g}"
        )
    if not 0 <= options.min_confidence <= 1:
        faults.append(f"--min-confidence: expected a number from 0 to 1, got {options.min_confidence:g}")
    if faults:
        raise ConfigError(faults, "command line")
    return Limits(options.min_seconds, options.max_seconds, options.min_confidence)


def _write_segments(alignment: Alignment, limits: Limits, separator: str, options: argparse.Namespace) -> None:
    """Write the manifest of the segments and, beside it, the list of what is left out."""
    path: Path = options.segments
    segments, left_out = cut_into_segments(alignment, limits, separator)
    name = relative_path(options.audio, path.parent)
    write_lines([{"path": name, **segment._asdict()} for segment in segments], path, "--segments")
    list_path = _list_path(path)
    rounded = [part._replace(start=round(part.start, 3), end=round(part.end, 3)) for part in left_out]
    write_lines([part._asdict() for part in rounded], list_path, "--segments")
    seconds = sum(segment.duration for segment in segments)
    print(f"segments: {path}: {len(segments)}, {seconds:.1f} s of {alignment.duration:.1f} s")
    for reason, count in Counter(_kind(part.reason) for part in left_out).most_common():
        print(f"left out: {count} {reason}")
    print(f"list: {list_path}")


def _list_path(segments: Path) -> Path:
    """Return the path of the list of what is left out."""
    return segments.with_name(f"{segments.stem}.left_out.jsonl")


def _kind(reason: str) -> str:
    """Return a reason without the figures of one segment."""
    return "confidence too low" if reason.startswith("confidence ") else reason


def _recogniser(options: argparse.Namespace) -> Recogniser:
    """Load the model; no decoder is needed but one is required, so it is the cheapest."""
    if not options.chunk_seconds > loading.MIN_CHUNK_SECONDS:
        fault = f"--chunk-seconds: expected more than {loading.MIN_CHUNK_SECONDS}, got {options.chunk_seconds:g}"
        raise ConfigError([fault], "command line")
    checkpoint = loading.read_checkpoint(options.resume)
    named = Named(options.config, trust=Trust(frozenset(options.allowed_modules), options.trust_config))
    config = for_evaluation(options.resume, named, lambda split: False, checkpoint).config
    model = make_model(options, checkpoint, config)
    settings = Settings(
        options.chunk_seconds, not options.keep_silence, max_audio_hours=config.preprocessing.max_audio_hours
    )
    return Recogniser(model, loading.make_decoders({"argmax": {"type": "argmax"}}, model.text_encoder), settings)


def _summary(alignment: Alignment) -> str:
    missing = [word.word for word in alignment.words if word.spoken is False]
    seconds = sum(stretch.end - stretch.start for stretch in alignment.extra_speech)
    parts = [f"{len(alignment.spoken)} of {len(alignment.words)} words found in {alignment.duration:.1f} s"]
    if missing:
        parts.append(f"{len(missing)} not spoken ({' '.join(missing[:8])}{' ...' if len(missing) > 8 else ''})")
    if alignment.extra_speech:
        parts.append(f"{len(alignment.extra_speech)} stretches of speech not in the text ({seconds:.1f} s)")
    return "; ".join(parts)
