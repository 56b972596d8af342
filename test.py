"""Transcribe and score recordings: python test.py -r checkpoint -t folder; see python test.py --help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hw_asr.runtime.entry_point import run_command


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so that --help is quick."""
    parser = argparse.ArgumentParser(description="Transcribe recordings and, where there are references, score them.")
    parser.add_argument("-r", "--resume", type=Path, required=True, metavar="CKPT",
                        help="checkpoint; its run's config.json is read from the same directory")  # fmt: skip
    parser.add_argument("-c", "--config", type=Path, metavar="OVERLAY",
                        help="JSON whose top-level sections replace those of the checkpoint's config")  # fmt: skip
    parser.add_argument("-t", "--test-data-folder", type=Path, metavar="DIR", dest="folder",
                        help="folder with audio/ and perhaps transcriptions/, a folder of recordings, or one file; "
                        "default: the config's splits other than train")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("output.json"), help="default: output.json")
    parser.add_argument("-b", "--batch-size", type=int, help="overrides the config's")
    parser.add_argument("-j", "--jobs", type=int, help="processes that read recordings; overrides the config's")
    parser.add_argument("-d", "--device", help="GPU index, or cpu; default: a GPU where there is one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="override any key of the config by dotted path; repeatable")  # fmt: skip
    parser.add_argument("--hotwords", metavar="WORDS", help="words or phrases to favour, separated by commas")
    parser.add_argument("--chunk-seconds", type=float, default=60.0, metavar="S",
                        help="recognise longer recordings in overlapping pieces; default: 60")  # fmt: skip
    parser.add_argument("--srt", type=Path, metavar="DIR", help="also write subtitles, as .srt files")
    parser.add_argument("--vtt", type=Path, metavar="DIR", help="the same as .vtt")
    parser.add_argument("--report", type=Path, metavar="PATH", help="also write a page to look at, HTML")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the command; return the exit code: 0, 1 for an error, 2 for a bad config."""
    options = parse_arguments()
    from hw_asr.commands.transcribe import run
    from hw_asr.config import ConfigError
    from hw_asr.errors import UserError

    try:
        return run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    run_command(main)
