"""`train.py --auto-resume`: a machine that is lost again and again, two machines, storages that fail.

The suite loses 2 machines per storage; HW_ASR_KILLS=10 in the environment loses 10.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import time
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.run_names import RunId
from hw_asr.storage.run_status import RunStatus, read_status, write_status
from hw_asr.tests.drive_case import DriveCase
from hw_asr.tests.drive_emulator import ROOT
from hw_asr.tests.test_processes import ProcessesCase
from hw_asr.tests.training_case import TrainingCase, differences, make_config, outcome, run_dir
from hw_asr.tests.waiting import wait_until

KILLS = int(os.environ.get("HW_ASR_KILLS", "2"))
RUN = RunId("tones", "run")
COMMAND = ["-c", "config.json", "--auto-resume", "-d", "cpu"]
OFTEN = {"save_steps": 1, "export_minutes": 1e-6, "heartbeat_seconds": 0.2}


class AutoResumeCase(TrainingCase):
    """The same run without any storage, to compare with."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.undisturbed = Path(cls.enter_class(TemporaryDirectory()))
        cls.write_config(cls.undisturbed, {})
        started = time.monotonic()
        code, output = cls.server.run(["-c", "config.json", "-d", "cpu"], cls.undisturbed)
        assert code == 0, output
        cls.seconds = time.monotonic() - started

    @classmethod
    def write_config(cls, place: Path, trainer: dict[str, Any]) -> None:
        config = make_config(cls.corpora, **{"epochs": 3, **trainer})
        if config["trainer"]["epochs"] > 100:
            config["lr_scheduler"] = None  # a schedule has an end
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def machine(self, storage: dict[str, Any], **trainer: Any) -> Path:
        """Return an empty directory with the config: a new machine."""
        directory = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        place = Path(directory.name)
        self.write_config(place, {"external_storage": storage, **OFTEN, **trainer})
        return place

    def lose_machines(self, storage: dict[str, Any]) -> str:
        """Kill training at random moments and delete its directory, until the run ends; return the last output."""
        moments, killed = random.Random(1), 0
        while True:
            place = self.machine(storage)
            process = self.server.start(COMMAND, place, place / "output.txt")
            if killed < KILLS:
                time.sleep(moments.uniform(0.3, self.seconds))
                os.killpg(process, signal.SIGKILL)
            code = self.server.wait(process)
            output = (place / "output.txt").read_text(encoding="utf-8")
            self.assertIn(code, (0, -signal.SIGKILL), output)
            self.assertNotIn("Traceback", output)
            self.assertLessEqual(output.count("auto-resume: "), 1)
            if code == 0:
                self.compare(place)
                return output
            killed += 1
            shutil.rmtree(place)

    def compare(self, place: Path) -> None:
        expected, result = outcome(self.undisturbed), outcome(place)
        metrics = [line for line in result[1] if "exports missing" not in line]
        self.assertEqual(differences(expected, (result[0], metrics)), [])


class DirectoryTest(AutoResumeCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        self.remote = Path(directory.name)
        self.storage = DirectoryStorage(self.remote)
        self.spec = {"type": "DirectoryStorage", "args": {"path": str(self.remote)}}

    def stopped(self, **trainer: Any) -> Path:
        """Return the place of a run that was stopped by a signal after its first step, and is in the storage."""
        place = self.machine(self.spec, **trainer)
        process = self.server.start(COMMAND, place, place / "output.txt")
        exported = self.remote / "tones/run/last.pth"
        wait_until(lambda: exported.is_file() and load_checkpoint(exported)["progress"]["step"] > 0)
        os.killpg(process, signal.SIGTERM)
        self.assertEqual(self.server.wait(process), 128 + signal.SIGTERM)
        return place

    def status(self) -> RunStatus:
        status = read_status(self.storage, RUN)
        assert status is not None
        return status

    def test_machines_are_lost_until_the_run_ends(self) -> None:
        self.lose_machines(self.spec)
        self.assertEqual(self.status().state, "finished")
        place = self.machine(self.spec)
        for rest in ("downloaded to saved/models/tones/run; there is nothing to train", "nothing to do"):
            output = self.train(place, *COMMAND[:-2])
            self.assertRegex(output, rf"\Aauto-resume: run tones:run is finished \(\d+ steps\); {rest}\n\Z")
            self.compare(place)

    def test_the_same_machine_goes_on_from_its_own_state(self) -> None:
        place = self.stopped()
        self.assertEqual(self.status().state, "stopped")
        output = self.train(place, *COMMAND[:-2])
        self.assertIn("auto-resume: continuing run tones:run from saved/models/tones/run/last.pth", output)
        self.compare(place)

    def test_a_run_with_only_its_best_checkpoint(self) -> None:
        place = self.stopped()
        shutil.rmtree(self.remote / "tones")
        for path in run_dir(place).glob("*.pth"):
            path.replace(run_dir(place) / "model_best.pth")
        self.assertIn("continues   saved/models/tones/run", self.train(place, *COMMAND[:-2], "--check"))
        self.train(place, *COMMAND[:-2])
        self.compare(place)

    def test_a_run_that_was_set_back_goes_on_from_there(self) -> None:
        place = self.machine(self.spec)
        self.train(place, *COMMAND[:-2])
        self.assertEqual(15, self.status().step)
        older = str(run_dir(place) / "checkpoint-epoch2.pth")
        self.assertIn("nothing to do", self.train(place, "-r", older, "--set", "trainer.epochs=2"))
        self.assertEqual((10, "last.pth"), (self.status().step, self.status().checkpoint))
        self.assertEqual(10, load_checkpoint(run_dir(place) / "last.pth")["progress"]["step"])

    def test_more_epochs_continue_a_finished_run(self) -> None:
        self.train(self.machine(self.spec), *COMMAND[:-2])
        place = self.machine(self.spec)
        output = self.train(place, *COMMAND[:-2], "--set", "trainer.epochs=4", "--set", "trainer.early_stop=9")
        self.assertIn("config trainer.epochs was 3", output)
        self.assertEqual(load_checkpoint(run_dir(place) / "last.pth")["progress"]["epoch"], 5)

    def test_a_change_that_is_another_run_is_refused_with_the_way_out(self) -> None:
        self.stopped()
        place = self.machine(self.spec)
        output = self.train(place, *COMMAND[:-2], "--set", "data.train.batch_sampler.args.batch_size=2", code=2)
        self.assertRegex(output, "batch_size: 3 when .* was written, now 2; undo the change, or start a new run")

    def test_two_machines_at_once(self) -> None:
        first = self.machine(self.spec, epochs=1000, early_stop=None)
        process = self.server.start(COMMAND, first, first / "output.txt")
        wait_until(lambda: (self.remote / "tones/run/last.pth").is_file())
        second = self.machine(self.spec)
        output = self.train(second, *COMMAND[:-2], code=1)
        self.assertRegex(output, rf"error: run tones:run is being trained by process {process} on .*; stop it")
        os.killpg(process, signal.SIGKILL)
        self.server.wait(process)

    def test_a_machine_that_is_replaced_stops(self) -> None:
        place = self.machine(self.spec, epochs=1000, early_stop=None)
        process = self.server.start(COMMAND, place, place / "output.txt")
        wait_until(lambda: (self.remote / "tones/run/last.pth").is_file())
        other = RunStatus(owner="other", host=f"process 1 on not-{socket.gethostname()}")
        text = place / "output.txt"
        wait_until(lambda: "is now trained by" in text.read_text() or write_status(self.storage, RUN, other))
        self.assertEqual(self.server.wait(process), 128 + signal.SIGTERM)
        self.assertIn(
            f"run tones:run is now trained by {other.host}; this process stops and exports nothing more",
            text.read_text(),
        )

    def test_a_storage_that_is_gone(self) -> None:
        gone = {"type": "DirectoryStorage", "args": {"path": str(self.remote / "absent")}}
        output = self.train(self.machine(gone), *COMMAND[:-2], code=1)
        self.assertRegex(output, r"\Aerror: external storage .*absent: no such directory.*\n\Z")

    def test_half_a_run_and_checkpoints_of_another_program(self) -> None:
        (self.remote / "tones/run").mkdir(parents=True)
        (self.remote / "tones/run/config.json").write_text("{}")
        self.assertIn("no earlier run of tones; starting one", self.train(self.machine(self.spec), *COMMAND[:-2]))
        shutil.rmtree(self.remote / "tones")
        save_checkpoint({"state_dict": {}}, self.remote / "tones/run/last.pth")
        output = self.train(self.machine(self.spec), *COMMAND[:-2], code=1)
        self.assertIn("written by another program and cannot be continued", output)
        (self.remote / "tones/run/last.pth").write_bytes(b"PK damaged")
        output = self.train(self.machine(self.spec), *COMMAND[:-2], code=1)
        self.assertRegex(output, "error: run tones:run in .*: last.pth is damaged")

    def test_a_start_that_was_killed_frees_its_name(self) -> None:
        place = self.machine(self.spec)
        run_dir(place).mkdir(parents=True)
        (run_dir(place) / "config.json").write_text("{}")
        self.train(place, *COMMAND[:-2])
        self.compare(place)


class TwoProcessesTest(ProcessesCase):
    def test_both_continue_on_a_new_machine(self) -> None:
        with TemporaryDirectory() as remote:
            storage = {"type": "DirectoryStorage", "args": {"path": remote}}
            undisturbed = self.place(self.config(epochs=2))
            self.train_two(undisturbed, "-c", "config.json")
            lost = self.place(self.config(epochs=2, external_storage=storage, **OFTEN))
            processes = self.start_two(lost, "-c", "config.json", "--auto-resume")
            wait_until(lambda: Path(remote, "tones/run/last.pth").is_file())
            for process in processes:
                os.killpg(process, signal.SIGKILL)
            self.end_two(lost, processes)
            found = self.place(self.config(epochs=2, external_storage=storage, **OFTEN))
            first, second = self.train_two(found, "-c", "config.json", "--auto-resume")
            self.assertIn("auto-resume: continuing run tones:run from last.pth", first)
            self.assertNotIn("auto-resume", second)
            result = outcome(found)
            metrics = [line for line in result[1] if "exports missing" not in line]
            self.assertEqual(differences(outcome(undisturbed), (result[0], metrics)), [])


class DriveTest(AutoResumeCase, DriveCase):
    def setUp(self) -> None:
        DriveCase.setUp(self)
        self.drive.items[ROOT]["driveId"] = "a shared drive"
        self.spec = {
            "type": "GDriveStorage",
            "args": {
                "storage_folder_id": ROOT, "service_account_key_filepath": str(self.key_path), "attempts": 6,
                "first_wait": 0.001, "endpoint": self.drive.url, "timeout": 20.0,
            },
        }  # fmt: skip

    def test_machines_are_lost_until_the_run_ends(self) -> None:
        upload = r"^/upload"
        for kind, method, path in (
            (503, "POST", upload), (500, "PUT", upload), (429, "GET", r"/files$"), ("cut", "PUT", upload),
            ("lost", "PUT", upload), ("damaged", "PUT", upload), ("cut", "GET", r"/files/id\d+$"),
            (503, "GET", r"/files$"),
        ):  # fmt: skip
            self.drive.fail(kind, method, path, times=2)
        self.lose_machines(self.spec)
        self.assertLessEqual({"tones/run/model_best.pth", "tones/run/status.json"}, set(self.drive.tree()))


if __name__ == "__main__":
    unittest.main()
