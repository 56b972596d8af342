"""What becomes of a run in a storage: which state is continued, and what is left when exports fail."""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.cli.main import run as run_command
from hw_asr.commands.auto_resume import Continuation, find_run
from hw_asr.commands.exports import Exports
from hw_asr.config import parse
from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.exporter import Exporter
from hw_asr.storage.heartbeat import Heartbeat
from hw_asr.storage.run_names import RunId
from hw_asr.storage.run_status import STATUS_NAME, RunStatus, State, read_status, write_status
from hw_asr.storage.runs import Run, Runs
from hw_asr.tests.training_case import make_config
from hw_asr.tests.waiting import wait_until

RUN = RunId("tones", "run")


class StoredCase(unittest.TestCase):
    def setUp(self) -> None:
        logging.getLogger("hw_asr").addHandler(logging.NullHandler())
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.remote = self.root / "remote" / "tones" / "run"
        self.remote.mkdir(parents=True)
        self.storage = DirectoryStorage(self.root / "remote")
        spec = {"type": "DirectoryStorage", "args": {"path": str(self.root / "remote")}}
        self.raw: dict[str, Any] = make_config(
            self.root, external_storage=spec, save_dir=str(self.root / "saved"), heartbeat_seconds=60
        )
        self.config = parse(self.raw)
        self.here = Runs(self.root / "saved").at(RUN)

    def status(self) -> RunStatus:
        status = read_status(self.storage, RUN)
        assert status is not None
        return status


class ContinuationTest(StoredCase):
    def store(self, name: str, step: int, modified: float | None = None) -> None:
        save_checkpoint({"state_dict": {}, "progress": {"step": step}}, self.remote / name)
        if modified is not None:
            os.utime(self.remote / name, (modified, modified))

    def find(self) -> Continuation:
        with redirect_stdout(StringIO()) as output:
            found = find_run(self.config)
        self.output = output.getvalue()
        return found

    def step_here(self) -> object:
        return load_checkpoint(self.here.checkpoint_path("last"))["progress"]["step"]

    def test_a_machine_that_ends_while_another_waits(self) -> None:
        for state, epochs in (("stopped", 0), ("finished", self.config.trainer.epochs)):
            with self.subTest(state):
                self.here.discard()
                self.store("model_best.pth", 8)
                before = RunStatus(host="process 1 on there", checkpoint="model_best.pth", step=8)
                write_status(self.storage, RUN, before)

                def end(*_: object, state: State = state, epochs: int = epochs, before: RunStatus = before) -> None:
                    self.store("last.pth", 10)
                    end = replace(before, checkpoint="last.pth", step=10, state=state, epochs=epochs)
                    write_status(self.storage, RUN, end)

                with mock.patch("hw_asr.commands.auto_resume.wait_until_stale", end):
                    found = self.find()
                self.assertEqual((state == "finished", 10), (found.finished, self.step_here()))

    def test_a_checkpoint_that_was_uploaded_by_hand_is_continued(self) -> None:
        self.store("checkpoint-epoch8.pth", 8)
        write_status(self.storage, RUN, RunStatus(state="stopped", checkpoint="checkpoint-epoch8.pth", step=8))
        written = (self.remote / STATUS_NAME).stat().st_mtime
        self.store("last.pth", 7, written - 10)  # older than the status, which knows better
        self.find()
        self.assertEqual(8, self.step_here())
        self.store("last.pth", 10, written + 10)
        self.find()
        self.assertEqual(10, self.step_here())
        self.assertIn("from last.pth (step 10)", self.output)
        self.find()
        self.assertIn(f"from {self.here.checkpoint_path('last')} (step 10)", self.output)

    def test_choosing_a_run_reads_no_checkpoint(self) -> None:
        for name in ("run", "other", "third"):
            save_checkpoint({"state_dict": {}, "progress": {"step": 1}}, self.remote.parent / name / "last.pth")
        self.config = parse({**self.raw, "trainer": {**self.raw["trainer"], "wandb_run": None}})
        with mock.patch("hw_asr.storage.directory.md5_of") as md5_of, mock.patch("hw_asr.storage.directory.verify"):
            self.find()
        read = {Path(call.args[0]).parents[2] for call in md5_of.call_args_list}
        self.assertEqual({self.root / "saved/models"}, read)  # what was downloaded is checked


class ExportsTest(StoredCase):
    def setUp(self) -> None:
        super().setUp()
        self.run_: Run = Runs(self.root / "saved").create(*RUN)
        self.run_.config_path.write_text(json.dumps(self.raw))
        save_checkpoint({"state_dict": {}, "progress": {"step": 10}}, self.run_.checkpoint_path("last"))

    def exports(self) -> Exports:
        return Exports(self.config, self.run_, lambda: "")

    def test_a_run_whose_last_checkpoint_is_missing_is_not_finished(self) -> None:
        for is_missing, state in ((True, "stopped"), (False, "finished")):
            with self.subTest(state):
                blocked = self.remote / "last.pth"
                if is_missing:
                    blocked.mkdir()
                with self.exports() as exports:
                    exports.export(self.run_.checkpoint_path("last"), 10)
                    exports.finished = True
                self.assertEqual((int(is_missing), state), (exports.missing, self.status().state))
                if is_missing:
                    blocked.rmdir()

    def test_the_command_of_the_log_uploads_what_is_missing(self) -> None:
        (self.remote / "last.pth").mkdir()
        with self.assertLogs("hw_asr.storage.exporter", logging.ERROR) as logs, self.exports() as exports:
            exports.export(self.run_.checkpoint_path("last"), 10)
        (self.remote / "last.pth").rmdir()
        command = shlex.split(logs.output[-1].rpartition("available again: ")[2])
        self.assertEqual(["python", "-m", "hw_asr"], command[:3])
        with redirect_stderr(StringIO()) as errors:
            self.assertEqual(0, run_command(command[3], command[4:]), errors.getvalue())
        self.assertEqual(10, load_checkpoint(self.remote / "last.pth")["progress"]["step"])

    def test_the_status_makes_the_folder_before_the_first_export(self) -> None:
        seen: list[bool] = []
        export = lambda *_: seen.append((self.remote / STATUS_NAME).is_file())  # noqa: E731
        with mock.patch.object(Exporter, "export", export), self.exports():
            pass
        self.assertEqual([True], seen)

    def test_a_checkpoint_is_not_sent_into_a_run_that_another_machine_has(self) -> None:
        lost: list[str] = []
        heartbeat = Heartbeat(self.storage, RUN, 60, lost.append)
        heartbeat.start()
        exporter = Exporter(self.storage, self.run_, is_lost=lambda: heartbeat.is_taken_over(self.storage))
        write_status(self.storage, RUN, RunStatus(host="process 2 on there"))
        exporter.export(self.run_.checkpoint_path("last"), 10)
        wait_until(lambda: exporter.missing)
        exporter.close()
        heartbeat.close("stopped")
        self.assertEqual(["process 2 on there"], lost)
        self.assertFalse((self.remote / "last.pth").exists())


if __name__ == "__main__":
    unittest.main()
