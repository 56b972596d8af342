"""What a real run shows and sends away: the console, the writers, exports; and what none of them may show."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.tests.drive_case import DriveCase
from hw_asr.tests.drive_emulator import ROOT as DRIVE_ROOT
from hw_asr.tests.test_gdrive_auth import Terminal
from hw_asr.tests.test_wandb_writer import wandb_history
from hw_asr.tests.training_case import TrainingCase, run_dir, wait_for_step
from hw_asr.tests.waiting import wait_until
from hw_asr.writers.jsonl import read_metrics

OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
STEP_VALUES = (
    "loss", "grad_norm", "learning_rate", "audio_seconds_per_second", "padding_share", "blank_rate", "WER (argmax)",
    "CER (argmax)",
)  # fmt: skip


class WatchingCase(TrainingCase):
    """Runs of five steps."""

    def short(self, **trainer: Any) -> dict[str, Any]:
        return self.config(**{"epochs": 1, "early_stop": None, **trainer})

    def log_dir(self, place: Path) -> Path:
        return place / "saved/log/tones/run"

    def metrics(self, place: Path) -> list[dict[str, Any]]:
        return read_metrics(self.log_dir(place) / "metrics.jsonl")

    def watched(self, place: Path, *arguments: str) -> str:
        code, output = self.server.run([*arguments, "-d", "cpu"], place, {**OFFLINE, "HOME": str(place)})
        self.assertEqual(0, code, output)
        return output


class WatchingTest(WatchingCase):
    def test_a_line_per_log_step_and_a_table_per_epoch(self) -> None:
        place = self.place(self.config(epochs=2, early_stop=None))
        lines = self.train(place, "-c", "config.json").splitlines()
        steps = [line for line in lines if line.startswith("epoch ") and "step" in line]
        self.assertEqual([2, 4, 6, 8, 10], [int(re.findall(r"step +(\d+)", line)[0]) for line in steps])
        for word in ("step", "loss", "CER", "grad", "lr", "real time", "left"):
            self.assertEqual(1, len({line.index(word) for line in steps}), f"{word} is not aligned")
        self.assertRegex(steps[-1], r"left 0:00:00$")
        table = next(index for index, line in enumerate(lines) if re.match(r"epoch 1 +loss", line))
        self.assertRegex(lines[table + 1], r"^val +\d+\.\d{4}\* +\d+\.\d\d%")  # the monitored value, the best so far
        self.assertRegex(lines[table + 2], r"^other +\d+\.\d{4} +\d+\.\d\d%")

    def test_verbosity(self) -> None:
        logs = []
        for verbosity, (has_tables, has_steps) in enumerate(((False, False), (True, False))):
            place = self.place(self.short(verbosity=verbosity))
            output = self.train(place, "-c", "config.json")
            self.assertEqual((has_tables, has_steps), ("epoch 1  " in output, "real time" in output), output)
            log = (self.log_dir(place) / "train.log").read_text(encoding="utf-8")
            logs.append(len(log.splitlines()))
            self.assertIn("real time", log)  # all of it, whatever the terminal shows
        self.assertEqual(1, len(set(logs)))

    def test_all_writers_get_everything_and_a_resumed_run_goes_on_in_them(self) -> None:
        place = self.place(self.short(visualize=["wandb", "tensorboard"], log_histograms=True))
        self.watched(place, "-c", "config.json")
        self.watched(place, "-r", str(run_dir(place) / "last.pth"), "--set", "trainer.epochs=2")
        metrics = self.metrics(place)
        self.assertEqual([2, 4, 5, 6, 8, 10, 10], [line["step"] for line in metrics])
        self.assertLessEqual({f"train_{name}" for name in STEP_VALUES}, set(metrics[0]))
        evaluated = {f"{split}_{name}" for split in ("val", "other") for name in ("loss", "CER (argmax)")}
        self.assertLessEqual(evaluated, set(metrics[2]))

        files = sorted(self.log_dir(place).glob("wandb/offline-run-*/run-*.wandb"))
        self.assertEqual((2, 1), (len(files), len({path.name for path in files})), "not the same run")
        history: dict[int, dict[str, Any]] = {}
        for path in files:
            for step, values in wandb_history(path).items():
                history.setdefault(step, {}).update(values)
        events = self.events(place)
        for line in metrics:
            for name in set(line) - {"step", "time"}:
                self.assertAlmostEqual(line[name], history[line["step"]][name], places=6)
                shown = {event.step: event.value for event in events.Scalars(name)}
                self.assertEqual(len(shown), len(events.Scalars(name)), "a step stands there twice")
                self.assertAlmostEqual(line[name], shown[line["step"]], delta=1e-4 * max(1, abs(line[name])))

        table = next(iter(self.log_dir(place).glob("wandb/*/files/" + history[2]["predictions.path"])))
        columns = json.loads(table.read_text(encoding="utf-8"))["columns"]
        self.assertLessEqual({"target", "raw", "argmax", "beam_search", "probability", "CER", "audio"}, set(columns))
        self.assertIn("spectrogram.width", history[2])
        self.assertEqual([2, 4, 6, 8, 10], [event.step for event in events.Images("spectrogram")])
        self.assertEqual([2, 4, 6, 8, 10], [event.step for event in events.Histograms("linear.weight")])
        self.assertIn("predictions/0", events.Tags()["audio"])

    def events(self, place: Path) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        sizes = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0, "audio": 0}
        return EventAccumulator(str(self.log_dir(place) / "tensorboard"), size_guidance=sizes).Reload()

    @unittest.skipUnless(Path("/proc/self/task").is_dir(), "needs /proc")
    def test_training_outlives_the_service_of_a_backend(self) -> None:
        config = self.endless_config()
        config["trainer"]["visualize"] = "wandb"
        place = self.place(config)
        output = place / "output.txt"
        environment = {**OFFLINE, "HOME": str(place)}
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, output, environment)
        wait_for_step(output, 2)
        services = [child for child in offspring(process) if "wandb" in name_of(child)]
        self.assertTrue(services, "W&B has no process to kill")
        for service in services:
            os.kill(service, signal.SIGKILL)
        killed_at = self.metrics(place)[-1]["step"]
        wait_until(lambda: self.metrics(place)[-1]["step"] > killed_at + 20)
        os.kill(process, signal.SIGTERM)
        self.assertEqual(143, self.server.wait(process), output.read_text(encoding="utf-8"))
        said = output.read_text(encoding="utf-8")
        self.assertEqual(1, said.count("WandbWriter failed and is disabled for the rest of this run"), said)
        self.assertNotIn("Traceback", said)

    def exporting(self, remote: Path, **trainer: Any) -> dict[str, Any]:
        storage = {"type": "DirectoryStorage", "args": {"path": str(remote)}}
        return self.config(external_storage=storage, **trainer)

    def test_what_a_run_saves_is_exported(self) -> None:
        place = self.place({})
        remote = place / "remote"
        remote.mkdir()
        (place / "config.json").write_text(json.dumps(self.exporting(remote, epochs=1)), encoding="utf-8")
        self.train(place, "-c", "config.json")
        exported = remote / "tones/run"
        names = {path.name for path in exported.iterdir()}
        self.assertLessEqual({"config.json", "model_best.pth", "metrics.jsonl"}, names)
        for name in names - {"metrics.jsonl", "status.json"}:
            self.assertEqual((run_dir(place) / name).read_bytes(), (exported / name).read_bytes(), name)
        record = (place / "saved/log/tones/run/metrics.jsonl").read_bytes()
        self.assertTrue(record.startswith((exported / "metrics.jsonl").read_bytes()))
        self.assertEqual(0, self.metrics(place)[-1]["exports missing"])

    def test_a_storage_that_goes_away_is_reported_loudly_and_costs_nothing_else(self) -> None:
        place = self.place({})
        remote = place / "remote"
        remote.mkdir()
        config = {**self.exporting(remote, epochs=1000, early_stop=None), "lr_scheduler": None}
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, place / "output.txt")
        wait_until((remote / "tones/run/config.json").is_file)
        remote.rename(place / "unmounted")
        wait_until(lambda: "\nepoch 3 " in (place / "output.txt").read_text(encoding="utf-8"))
        os.kill(process, signal.SIGTERM)
        self.assertEqual(143, self.server.wait(process))
        said = (place / "output.txt").read_text(encoding="utf-8")
        self.assertRegex(said, r"error: NOT EXPORTED: model_best.pth of run tones:run: .*no such directory")
        self.assertRegex(
            said, r"models upload -c saved/models/tones/run/config.json .*--run tones:run .*model_best.pth"
        )
        self.assertGreater(self.metrics(place)[-1]["exports missing"], 0)
        shutil.rmtree(place / "unmounted")


def offspring(process: int) -> list[int]:
    """Return the processes that a process, or one of these, has started."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *offspring(child)]
    return found


def name_of(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text()


class SecretsTest(DriveCase, WatchingCase):
    def test_nothing_that_a_run_writes_or_says_holds_a_secret(self) -> None:
        with mock.patch("sys.stdin", Terminal(self.drive.code + "\n")), mock.patch("sys.stderr", io.StringIO()):
            self.storage(client_credentials_filepath=self.client_path).check_writable()
        args = {
            "storage_folder_id": DRIVE_ROOT, "client_credentials_filepath": str(self.client_path),
            "service_account_key_filepath": "$PLANTED_SERVICE_ACCOUNT", "endpoint": self.drive.url,
            "first_wait": 0.001, "attempts": 2,
        }  # fmt: skip
        storage = {"type": "GDriveStorage", "args": args}
        place = self.place(self.short(visualize=["wandb", "tensorboard"], external_storage=storage))
        self.drive.fail(500, "PUT", "/upload/", times=3)
        environment = {
            **OFFLINE, "HOME": str(place), "PLANTED_SERVICE_ACCOUNT": self.key_path.read_text(),
            "WANDB_API_KEY": "planted-wandb-key-" + "0" * 22, "no_proxy": "127.0.0.1,localhost",
        }  # fmt: skip
        code, said = self.server.run(["-c", "config.json", "-d", "cpu"], place, environment)
        self.assertEqual(0, code, said)
        self.assertIn("tones/run/model_best.pth", self.drive.tree())
        written = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        written |= {path: path.read_bytes() for path in self.drive.contents.iterdir()}
        names = {path.suffix for path in written}
        self.assertLessEqual({".pth", ".json", ".jsonl", ".log", ".wandb", ".txt"}, names)
        for secret in (*self.secrets(), "planted-wandb-key"):
            for path, content in written.items():
                self.assertNotIn(secret.encode(), content, path)


if __name__ == "__main__":
    unittest.main()
