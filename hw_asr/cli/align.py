"""Find the words of a known text in a recording, of any length: start, end and confidence of each.

Words that are not spoken and speech that is not in the text are found, too.

examples:
  hw-asr align -r model_best.pth talk.m4a talk.txt                      JSON on standard output
  hw-asr align -r model_best.pth talk.m4a talk.txt -o talk.TextGrid     for Praat; also .srt, .vtt, .ctm, .json
  hw-asr align -r model_best.pth talk.wav --text "hello world" --characters
  hw-asr align -r model_best.pth book.mp3 book.txt --segments book.jsonl      a manifest for training
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hw_asr.cli.recipes import config_path
from hw_asr.cli.trust import add_trust_arguments

FORMATS = ("json", "textgrid", "srt", "vtt", "ctm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("audio", type=Path, metavar="AUDIO", help="the recording")
    add("transcript", type=Path, nargs="?", metavar="TEXT", help="a text file, UTF-8")
    add("-r", "--resume", type=Path, required=True, metavar="CKPT",
        help="checkpoint; uses the config.json beside it, or else the one inside it")  # fmt: skip
    add("--text", metavar="STRING", help="the text itself instead of a file")
    add("-o", "--output", type=Path, metavar="PATH", help="default: standard output")
    add("--format", choices=FORMATS, help="default: by the ending of -o, else json")
    add("--characters", action="store_true", help="also the times of characters (json and textgrid)")
    add("--forced", action="store_true",
        help="assume that every word of the text is spoken, and nothing else")  # fmt: skip
    add("--segments", type=Path, metavar="JSONL",
        help="cut the recording at pauses into utterances for training and write their manifest")  # fmt: skip
    add("--min-seconds", type=float, default=1.0, metavar="S", help="of a segment; default: 1")
    add("--max-seconds", type=float, default=15.0, metavar="S", help="of a segment; default: 15")
    add("--min-confidence", type=float, default=0.3, metavar="P",
        help="geometric mean of a segment's words; default: 0.3")  # fmt: skip
    add("-c", "--config", type=config_path, metavar="OVERLAY",
        help="JSON whose top-level sections replace those of the checkpoint's config")  # fmt: skip
    add("-d", "--device", help="GPU index, or cpu; default: a GPU if available, else the CPU")
    add("--chunk-seconds", type=float, default=60.0, metavar="S",
        help="longer recordings go through the network in overlapping chunks; default: 60")  # fmt: skip
    add("--keep-silence", action="store_true",
        help="also look for words in parts that do not rise above the background noise")  # fmt: skip
    add_trust_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Align and write; return the exit code."""
    from hw_asr.commands import align

    return align.run(options)
