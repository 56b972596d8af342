"""Transcribe recordings and, where there are references, score them."""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-r", "--resume", type=Path, required=True, metavar="CKPT",
        help="checkpoint; uses the config.json beside it, or the one inside it; or an exported model.onnx")  # fmt: skip
    add("-c", "--config", type=config_path, metavar="OVERLAY",
        help="JSON whose top-level sections replace those of the checkpoint's config")  # fmt: skip
    add("-t", "--test-data-folder", type=Path, metavar="PATH", dest="folder",
        help="folder of recordings, folder with audio/ and transcriptions/, one recording, or a manifest; "
        "default: the config's splits other than train")  # fmt: skip
    add("-o", "--output", type=Path, default=Path("output.json"), help="default: output.json")
    add("-b", "--batch-size", type=int, help="overrides the config's")
    add("-j", "--jobs", type=int, help="threads that read recordings; overrides the config's")
    add("-d", "--device", help="GPU index, or cpu; default: a GPU if available, else the CPU")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
        help="override any key of the config by dotted path; repeatable")  # fmt: skip
    add("--hotwords", metavar="WORDS", help="words or phrases to favour, separated by commas")
    add("--chunk-seconds", type=float, default=60.0, metavar="S",
        help="recognise longer recordings in overlapping chunks and decode them in segments; default: 60")  # fmt: skip
    add("--keep-silence", action="store_true",
        help="also decode parts that do not rise above the background noise; default: they have no text")  # fmt: skip
    add("--strict", action="store_true",
        help="refuse damaged recordings; default: transcribe as far as possible, with a warning")  # fmt: skip
    add("--overwrite", action="store_true",
        help="ignore the results of an interrupted run instead of continuing it; replace any subtitles")  # fmt: skip
    add("--srt", type=Path, metavar="DIR", help="also write subtitles, as .srt files")
    add("--vtt", type=Path, metavar="DIR", help="the same as .vtt")
    add("--report", type=Path, metavar="PATH", help="also write an HTML page of the results")
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Transcribe, score and write; return the exit code."""
    from hw_asr.commands import transcribe

    return transcribe.run(options)
