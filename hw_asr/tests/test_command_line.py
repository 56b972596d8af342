"""`hw-asr` and its commands: the table, help, unknown names, errors and exit codes, and what parsing imports."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from hw_asr.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str) -> tuple[int, str, str]:
    """Run `hw-asr`; return its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
    return code, out.getvalue(), err.getvalue()


class CommandLineTest(unittest.TestCase):
    def test_help_names_every_command_with_its_summary(self) -> None:
        for arguments in ((), ("--help",)):
            code, out, err = call(*arguments)
            self.assertEqual((code, err), (0, ""))
            for name, command in COMMANDS.items():
                self.assertRegex(out, rf"(?m)^  {name} +{command.summary}$")

    def test_every_command_has_help(self) -> None:
        for name, command in COMMANDS.items():
            code, out, _ = call(name, "--help")
            self.assertEqual(code, 0)
            self.assertIn(f"usage: hw-asr {name} ", out)
            self.assertIn((importlib.import_module(command.module).__doc__ or "").splitlines()[0], out)

    def test_unknown_commands(self) -> None:
        self.assertEqual(call("tran"), (2, "", "error: unknown command 'tran'; did you mean 'train'?\n"))
        self.assertRegex(call("xyz")[2], "^error: unknown command 'xyz'; known: train, test, ")

    def test_options_that_do_not_fit_together_show_the_usage(self) -> None:
        for arguments, message in (
            (("train",), "give a config with -c, a checkpoint with -r, or both"),
            (("report", "--decoder", "argmax"), "give either a run or an output.json"),
            (("lm-build", "-o", "lm.arpa"), "nothing to read"),
            (("models",), "required: COMMAND"),
        ):
            code, out, err = call(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertRegex(err, f"^usage: hw-asr {arguments[0]} ")
            self.assertIn(message, err.splitlines()[-1])

    def test_errors_are_one_message_and_an_exit_code(self) -> None:
        with TemporaryDirectory() as directory:
            missing = str(Path(directory) / "missing")
            for arguments, expected, message in (
                (("train", "-c", missing), 2, f"{missing}: no such file"),
                (
                    ("lm-build", "--text", missing, "-o", f"{missing}.arpa"),
                    1,
                    f"{missing}: cannot read it: No such file or directory",
                ),
                (("report", f"{missing}.json"), 1, "No such file or directory"),
                (("average", missing, "-o", "x.pth"), 1, f"{missing}: "),
            ):
                code, out, err = call(*arguments)
                self.assertEqual((code, out), (expected, ""), err)
                self.assertTrue(err.startswith("error: ") and message in err, err)

    def test_parsing_imports_nothing_heavy(self) -> None:
        code = (
            "import argparse, importlib, sys\n"
            "before = set(sys.modules)\n"
            "from hw_asr.cli.main import COMMANDS\n"
            "for command in COMMANDS.values():\n"
            "    importlib.import_module(command.module).add_arguments(argparse.ArgumentParser())\n"
            "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
            "print(sorted(loaded - sys.stdlib_module_names - {'hw_asr'}))\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "[]\n")

    def test_models_needs_no_torch(self) -> None:
        code = "import sys, hw_asr.commands.models; print([name for name in ('torch', 'numba') if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "[]\n")


if __name__ == "__main__":
    unittest.main()
