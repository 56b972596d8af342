"""Recognise speech while it arrives: from a microphone, from a pipe or from a file.

The checkpoint's network has to run in one direction; see docs/streaming.md.

examples:
  hw-asr listen -r model_best.pth --microphone
  hw-asr listen -r model_best.pth talk.m4a --real-time
  ffmpeg -i rtsp://camera -f s16le -ac 1 -ar 16000 - | hw-asr listen -r model_best.pth -
  hw-asr listen -r model_best.pth talk.wav --json        partial and final results, one JSON object per line
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("source", nargs="?", metavar="FILE | -",
        help="a recording, or - for standard input: raw samples, 16 bits, little-endian, mono")  # fmt: skip
    add("-r", "--resume", type=Path, required=True, metavar="CKPT",
        help="checkpoint; uses the config.json beside it, or else the one inside it")  # fmt: skip
    add("--microphone", action="store_true", help="listen to the default microphone until Ctrl-C")
    add("--rate", type=int, metavar="HZ", help="sample rate of standard input; default: the model's")
    add("--real-time", action="store_true", help="read a file as fast as it plays")
    add("--json", action="store_true", help="print JSON lines: partial results, segments, the final result")
    add("--decoder", metavar="NAME", help="argmax, beam_search or lm_beam_search; default: the best of the config")
    add("--lm", type=Path, metavar="ARPA", help="language model for lm_beam_search")
    add("--hotwords", metavar="WORDS", help="words or phrases to favour, separated by commas")
    add("--keep-silence", action="store_true",
        help="also decode what does not rise above the background noise; less delay")  # fmt: skip
    add("-d", "--device", default="auto", help="GPU index, or cpu; default: a GPU if available, else the CPU")
    add("--allow-module", action="append", default=[], metavar="NAME", dest="allowed_modules",
        help="let the checkpoint's own config import this module; repeatable")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Recognise until the audio ends or Ctrl-C; return the exit code."""
    if (options.source is None) != options.microphone:
        raise UsageError("give either a file, or - for standard input, or --microphone")
    if options.rate is not None and (options.source != "-" or options.rate <= 0):
        raise UsageError("--rate is the sample rate of standard input, a positive number of Hz")
    if options.real_time and (options.microphone or options.source == "-"):
        raise UsageError("--real-time needs a file")
    from hw_asr.commands import listen

    return listen.run(options)
