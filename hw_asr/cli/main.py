"""The commands of `hw-asr` and how they run: parse the options, run, turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from hw_asr.cli.errors import UsageError
from hw_asr.errors import ConfigError, UserError
from hw_asr.runtime.entry_point import run_command
from hw_asr.runtime.printable import printable, printable_line

FAILED, BAD_CONFIG = 1, 2


class Command(NamedTuple):
    """A command: where its options are declared, and one line for `hw-asr --help`."""

    module: str
    """Module with `add_arguments(parser)` and `run(options) -> int`. Importing it must load no third-party package."""
    summary: str


COMMANDS = {
    "train": Command("hw_asr.cli.train", "train a recogniser, or continue a run"),
    "test": Command("hw_asr.cli.test", "transcribe recordings and score them"),
    "report": Command("hw_asr.cli.report", "write an HTML page of a run, of results, or of a comparison"),
    "lm-build": Command("hw_asr.cli.lm_build", "estimate an n-gram language model from text"),
    "lm-tune": Command("hw_asr.cli.lm_tune", "choose the language model's weights on a dev split"),
    "listen": Command("hw_asr.cli.listen", "recognise a microphone, a pipe or a file live"),
    "align": Command("hw_asr.cli.align", "find the words of a text in a recording"),
    "export": Command("hw_asr.cli.export", "export a checkpoint to ONNX, for recognition without torch"),
    "audit": Command("hw_asr.cli.audit", "find transcripts that do not fit their recordings"),
    "average": Command("hw_asr.cli.average", "average the weights of several checkpoints"),
    "models": Command("hw_asr.cli.models", "list, download and upload checkpoints"),
}


def run(name: str, arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run the command called `name`; return its exit code.

    Args:
        name: a key of `COMMANDS`.
        arguments: the options; None: those of this process.
        program: the name shown by `--help`; None: the script's.

    Returns:
        0, 1 for an error, 2 for a bad config. Exits with 2 after options that do not fit together.
    """
    module = importlib.import_module(COMMANDS[name].module)
    parser = argparse.ArgumentParser(
        prog=program, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    try:
        code: int = module.run(parser.parse_args(arguments))
    except UsageError as error:
        parser.error(str(error))
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return BAD_CONFIG if isinstance(error, ConfigError) else FAILED
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        print(f"error: {name} needs torch, which is not installed: pip install torch", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {printable_line(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return FAILED
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hw-asr COMMAND ...`; return the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"hw-asr {version('hw_asr')}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(COMMANDS)}"
        print(f"error: unknown command {name!r}; {advice}", file=sys.stderr)
        return BAD_CONFIG
    return run(name, rest, f"hw-asr {name}")


def console() -> NoReturn:
    """Run `hw-asr` as a console script."""
    run_command(main)


def _overview() -> str:
    lines = ["usage: hw-asr COMMAND [OPTIONS]", "", "Train and run CTC speech recognisers.", "", "commands:"]
    lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "hw-asr COMMAND --help shows the options of a command."])
