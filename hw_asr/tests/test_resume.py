"""Runs that are killed, stopped or damaged and go on: the same bits as one that nothing happened to.

The suite kills 4 times; HW_ASR_KILLS=20 in the environment kills 20 times.
"""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unittest
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hw_asr.config import parse
from hw_asr.experiment.resume_rules import apply_changes, compare, forget_best, group_options
from hw_asr.runtime.file_lock import LOCK_NAME, hold
from hw_asr.tests.training_case import TrainingCase, differences, make_config, outcome, run_dir, wait_for_step
from hw_asr.tests.waiting import wait_until
from hw_asr.training.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("HW_ASR_KILLS", "4"))


UNSHARE = ["unshare", "-r", "-m", "bash", "-c"]
CAN_UNSHARE = (
    shutil.which("unshare") is not None
    and not subprocess.run([*UNSHARE, "mount -t tmpfs none /tmp"], capture_output=True, check=False).returncode
)


class TestKill(TrainingCase):
    def test_killed_anywhere_the_same_run(self) -> None:
        config = self.config(save_steps=1)
        config["optimizer"]["groups"] = [{"match": "cnn_block", "lr_scale": 0.5, "weight_decay": 0}]
        frozen = ["cnn_block", "gru_block.rnn_layers.0"]
        config["trainer"]["transfer"] = {"freeze": frozen, "unfreeze_after_epochs": 2}
        place = self.place(config)
        start = time.monotonic()
        self.train(place, "-c", "config.json")
        seconds = time.monotonic() - start
        expected, files = outcome(place), names(place)
        self.assertEqual(len([line for line in expected[1] if "epoch" in line]), 4)

        moments = random.Random(len(expected[1]))
        killed = 0
        shutil.rmtree(place / "saved")
        while killed < KILLS:
            last = run_dir(place) / "last.pth"
            if not last.is_file():
                shutil.rmtree(place / "saved", ignore_errors=True)  # killed before there was anything to go on from
            arguments = ["-r", str(last)] if last.is_file() else ["-c", "config.json"]
            process = self.server.start([*arguments, "-d", "cpu"], place, place / "output.txt")
            # Half of the kills are aimed at a save: as soon as a part of a file is there.
            if moments.random() < 0.5:
                wait_for_save(place, moments.randrange(1, 4), 2 * seconds)
                time.sleep(moments.uniform(0, 0.003))
            else:
                time.sleep(moments.uniform(0.05, seconds))
            os.killpg(process, signal.SIGKILL)
            code = self.server.wait(process)
            output = (place / "output.txt").read_text(encoding="utf-8")
            self.assertIn(code, (-signal.SIGKILL, 0), output)
            if code == 0:  # it was done already
                self.compare(place, expected, files)
                shutil.rmtree(place / "saved")
                continue
            killed += 1
        if (run_dir(place) / "last.pth").is_file():
            self.train(place, "-r", str(run_dir(place) / "last.pth"))
            self.compare(place, expected, files)

    def compare(self, place: Path, expected: tuple[object, object], files: list[str]) -> None:
        self.assertEqual(differences(expected, outcome(place)), [])
        self.assertEqual(names(place), files)


class TestInterruption(TrainingCase):
    """What else can happen to a run; each ends like the one that nothing happened to."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.undisturbed = Path(cls.enter_class(TemporaryDirectory()))
        (cls.undisturbed / "config.json").write_text(json.dumps(make_config(cls.corpora, epochs=3)), encoding="utf-8")
        code, output = cls.server.run(["-c", "config.json", "-d", "cpu"], cls.undisturbed)
        assert code == 0, output

    def finish(self, place: Path, checkpoint: str = "last.pth", *arguments: str) -> str:
        """Continue the run; it must become the undisturbed one."""
        output = self.train(place, "-r", str(run_dir(place) / checkpoint), *arguments)
        self.assertEqual(differences(outcome(self.undisturbed), outcome(place)), [])
        return output

    def interrupted(self, number: signal.Signals, **trainer: Any) -> Path:
        """Return the place of a run that got a signal in its first epoch, and has ended as it should."""
        place = self.place(self.config(epochs=3, **trainer))
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, place / "output.txt")
        wait_for_step(place / "output.txt", 2)
        os.killpg(process, number)
        self.assertEqual(self.server.wait(process), 128 + number)
        output = (place / "output.txt").read_text(encoding="utf-8")
        self.assertIn("saved; to continue: python train.py -r saved/models/tones/run/last.pth", output)
        self.assertNotIn("Traceback", output)
        return place

    def test_signals_save_and_leave(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                self.finish(self.interrupted(number))

    def test_second_signal_ends_at_once(self) -> None:
        """Real processes with workers; the second signal comes while the run saves, and while Python shuts down."""
        place = self.place(self.endless_config())
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "train.py"), "-c", "config.json", "-d", "cpu"]
        for moment in ("press Ctrl-C again to quit now", "to continue: python train.py"):
            with self.subTest(moment), (place / "output.txt").open("w+") as output:
                process = subprocess.Popen(
                    [*command, "--set", f"trainer.wandb_run={moment[:5]}"], cwd=place, env=environment, stdout=output,
                    stderr=output, start_new_session=True,
                )  # fmt: skip
                wait_for_step(place / "output.txt", 2)
                os.killpg(process.pid, signal.SIGINT)
                wait_until(lambda: moment in (place / "output.txt").read_text())  # noqa: B023
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                self.assertIn(process.wait(), (-signal.SIGINT, 130))
                wait_until(lambda: group_is_gone(process.pid))  # noqa: B023
                self.assertNotIn("Traceback", (place / "output.txt").read_text())

    def test_full_disk_leaves_the_checkpoint_before(self) -> None:
        place = self.place(self.config(epochs=3))
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, place / "output.txt", file_limit=80_000)
        self.assertEqual(self.server.wait(process), 1)
        output = (place / "output.txt").read_text(encoding="utf-8")
        self.assertIn(".pth: the checkpoint could not be written: the file is larger than this system", output)
        self.assertNotIn("Traceback", output)
        self.assertEqual([name for name in names(place) if name.endswith(".part")], [])
        self.finish(place)

    def test_damaged_checkpoint_falls_back_loudly(self) -> None:
        place = self.interrupted(signal.SIGTERM)
        kept = shutil.copytree(place / "saved", place / "kept")
        last = run_dir(place) / "last.pth"
        content = last.read_bytes()
        flipped = bytearray(content)
        with zipfile.ZipFile(last) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        flipped[largest.header_offset + 512] ^= 1
        for name, damaged in (("cut short", content[:-2000]), ("one bit", bytes(flipped))):
            with self.subTest(name):
                last.unlink()
                last.write_bytes(damaged)
                output = self.finish(place)
                self.assertRegex(output, r"warning: .*last.pth: .*; continuing from .*previous.pth instead \(step 0\)")
                shutil.rmtree(place / "saved")
                shutil.copytree(kept, place / "saved")

    def test_one_process_at_a_time(self) -> None:
        place = self.interrupted(signal.SIGTERM)
        with hold(run_dir(place) / LOCK_NAME):
            output = self.train(place, "-r", str(run_dir(place) / "last.pth"), code=1)
        self.assertRegex(output, rf"^error: .*run: in use by process {os.getpid()} on .*\n$")

    def test_other_configs(self) -> None:
        place = self.interrupted(signal.SIGTERM)
        last = str(run_dir(place) / "last.pth")
        refused = {
            "arch.args.gru_config.hidden_dims=[8]": r"arch.args.gru_config.hidden_dims: \[12, 12\] when .*, now \[8\]",
            'text_encoder.args.alphabet=["a","b","c","d","e"]': "text_encoder.args.alphabet: ",
            "trainer.accumulate_grad_steps=1": "trainer.accumulate_grad_steps: 2 when",
        }
        for change, message in refused.items():
            with self.subTest(change):
                self.assertRegex(
                    self.train(place, "-r", last, "--set", change, code=2), f"error: resume: .*\n  {message}"
                )
        changes = ("trainer.epochs=2", "data.train.num_workers=0", "n_gpu=64")
        output = self.train(place, "-r", last, *(word for change in changes for word in ("--set", change)))
        self.assertIn("warning: n_gpu is 64, but this machine has", output)
        self.assertRegex(output, "warning: config trainer.epochs was 3 when .*; now 2")
        self.assertRegex(output, "warning: config data.train.num_workers was 2 when .*; now 0")
        self.assertIn("nothing to do", self.train(place, "-r", last), "a continued run keeps what --set gave")
        self.finish(place, "last.pth", "--set", "trainer.epochs=3")

    def test_a_start_that_fails_leaves_nothing(self) -> None:
        place = self.place(self.config(epochs=3))
        data, nowhere = "data.train.datasets.0.args.data", "nowhere.jsonl"
        for code, arguments in ((1, []), (2, ["--check"])):
            output = self.train(place, "-c", "config.json", "--set", f"{data}={nowhere}", *arguments, code=code)
            self.assertIn("nowhere.jsonl: cannot read the manifest", output)
            self.assertFalse((place / "saved").exists())
        self.train(place, "-c", "config.json")
        self.assertEqual(differences(outcome(self.undisturbed), outcome(place)), [])

    @unittest.skipUnless(CAN_UNSHARE, "mounting a directory read-only needs privileges, or user namespaces")
    def test_a_read_only_run_continues_in_a_copy(self) -> None:
        place = self.interrupted(signal.SIGTERM)
        (place / "saved").rename(place / "input")
        script = "mount --bind input input && mount -o remount,bind,ro input && exec " + shlex.join(
            [sys.executable, str(ROOT / "train.py"), "-r", "input/models/tones/run/last.pth", "-d", "cpu"]
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*UNSHARE, script], cwd=place, env=environment, capture_output=True, text=True, check=False
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(
            "input/models/tones/run is read-only; the run continues in a copy, saved/models/tones/run", done.stderr
        )
        self.assertEqual(differences(outcome(self.undisturbed), outcome(place)), [])

    def test_what_is_no_checkpoint(self) -> None:
        place = self.undisturbed
        self.assertIn(
            "is a directory; give one of its checkpoints", self.train(place, "-r", str(run_dir(place)), code=1)
        )
        (place / "file").touch()
        output = self.train(place, "-c", "config.json", "--set", "trainer.save_dir=file/below", code=1)
        self.assertRegex(output, "^error: file/below: a run cannot be written there: .*Not a directory")
        foreign = place / "weights.pth"
        torch.save({"state_dict": {"weight": torch.zeros(3)}}, foreign)
        shutil.copyfile(place / "config.json", place / "kept.json")
        output = self.train(place, "-c", "kept.json", "-r", str(foreign), "--set", "trainer.wandb_run=b", code=1)
        self.assertIn("its weights do not fit the model of the config", output)


class TestChanges(unittest.TestCase):
    def test_a_new_learning_rate_takes_effect(self) -> None:
        raw = make_config(Path())
        raw["lr_scheduler"] = None
        changed = json.loads(json.dumps(raw))
        changed["optimizer"]["args"]["lr"] = 0.5
        changed["trainer"]["monitor"] = "min other_loss"
        parameters = torch.nn.Linear(1, 1).parameters()
        optimizer = torch.optim.AdamW(parameters, lr=0.5)
        options = group_options(optimizer)
        optimizer.param_groups[0]["lr"] = 0.003
        progress = Progress(best=1.0, epochs_without_improvement=2)
        with self.assertLogs("hw_asr.experiment.resume_rules", "WARNING") as logs:
            compare(parse(changed), raw, Path("last.pth"), 1)
        self.assertIn("optimizer.args.lr was 0.003 when last.pth was written; now 0.5", logs.output[0])
        apply_changes(parse(changed), raw, optimizer, options)
        forget_best(parse(changed), raw, progress)
        self.assertEqual(optimizer.param_groups[0]["lr"], 0.5)
        self.assertEqual((progress.best, progress.epochs_without_improvement), (None, 0))


def group_is_gone(group: int) -> bool:
    """Whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def names(place: Path) -> list[str]:
    """What the run's directory holds."""
    return sorted(path.name for path in run_dir(place).iterdir())


def wait_for_save(place: Path, number: int, timeout: float) -> None:
    """Return while the `number`-th checkpoint from now on is being written."""
    end = time.monotonic() + timeout
    seen = False
    while number and time.monotonic() < end:
        now = any(run_dir(place).glob(".*.part"))
        number -= now and not seen
        seen = now
        time.sleep(0.0005)


if __name__ == "__main__":
    unittest.main()
