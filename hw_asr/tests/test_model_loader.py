"""The model loader's command line, against a directory and against Drive."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

from hw_asr.cli.main import main
from hw_asr.storage.catalogue import Catalogue
from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.external import md5_of
from hw_asr.storage.run_names import RunId
from hw_asr.storage.run_status import RunStatus, write_status
from hw_asr.tests.drive_case import DriveCase
from hw_asr.tests.drive_emulator import ROOT
from hw_asr.tests.published_layout import write_published
from hw_asr.tests.waiting import DEADLINE, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "model_loader" / "model_loader.py"
BEST_RUN = "kaggle_deepspeech2_1+6_finetuning:finetuned1"


def call(*arguments: str | Path) -> tuple[int, str, str]:
    """Run `models`; return its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["models", *map(str, arguments)])
    return status, out.getvalue(), err.getvalue()


def recording() -> Path:
    return next((REPOSITORY / "demo" / "corpus" / "test").glob("*.opus"))


class DirectoryCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.models = self.directory / "saved" / "models"
        self.remote = self.directory / "remote"
        for run, names in (("exp:one", ["a", "model_best"]), ("exp:two", ["a", "b"]), (BEST_RUN, ["model_best"])):
            self.add(self.remote, run, names)
        self.config = self.directory / "storage.json"
        self.write_config({"type": "DirectoryStorage", "args": {"path": str(self.remote)}})

    def write_config(self, spec: dict[str, Any]) -> None:
        self.config.write_text(json.dumps({**spec, "best": {"run": BEST_RUN, "checkpoint": "model_best"}}))

    def add(self, root: Path, run: str, names: list[str]) -> Path:
        experiment, name = RunId.parse(run)
        directory = root / experiment / name
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps({"name": experiment}))
        for age, checkpoint in enumerate(names):
            path = directory / f"{checkpoint}.pth"
            path.write_text(f"{run} {checkpoint}")
            os.utime(path, (2_000_000 + age, 2_000_000 + age))
        os.utime(directory, (1_000_000 + len(names), 1_000_000 + len(names)))
        return directory

    def loader(self, *arguments: str | Path) -> tuple[int, str, str]:
        command, *rest = arguments
        paths: list[str | Path] = [] if command in ("list", "login") else ["-p", self.models]
        return call(command, "-c", self.config, *paths, *rest)

    def test_list(self) -> None:
        status, table, _ = self.loader("list")
        self.assertEqual(status, 0)
        self.assertEqual([line.split()[0] for line in table.splitlines()], ["run", "exp:one", "exp:two", BEST_RUN])
        self.assertTrue(table.splitlines()[-1].endswith("best"))
        runs = json.loads(self.loader("list", "--json")[1])
        self.assertEqual([(run["run"], run["best"]) for run in runs][-1], (BEST_RUN, True))
        _, table, _ = self.loader("list", "--run", "exp:two")
        self.assertEqual([line.split()[0] for line in table.splitlines()], ["file", "a.pth", "b.pth", "config.json"])
        files = json.loads(self.loader("list", "--run", "exp:two", "--json")[1])
        self.assertEqual(files[0]["md5"], md5_of(self.remote / "exp" / "two" / "a.pth"))

    def test_download_names(self) -> None:
        best = RunId.parse(BEST_RUN)
        cases: dict[tuple[str, ...], tuple[RunId, str]] = {
            ("best",): (best, "model_best"),
            (): (best, "model_best"),
            ("--run", "best"): (best, "model_best"),
            ("--run", "exp:one"): (RunId("exp", "one"), "model_best"),
            ("--run", "exp:two", "latest"): (RunId("exp", "two"), "b"),
            ("--run", "exp:two", "a.pth"): (RunId("exp", "two"), "a"),
            ("--run", "exp:one", "best"): (RunId("exp", "one"), "model_best"),
        }
        for arguments, (run, name) in cases.items():
            with self.subTest(arguments):
                status, out, _ = self.loader("download", *arguments)
                path = self.models / run.experiment / run.name / f"{name}.pth"
                self.assertEqual((status, out.splitlines()), (0, [str(path.absolute())]))
                self.assertEqual(path.read_text(), f"{run} {name}")
                self.assertTrue((path.parent / "config.json").is_file())
        os.utime(self.remote / "exp" / "two", (3_000_000_000, 3_000_000_000))
        for arguments in (("latest",), ("--run", "latest", "latest")):
            self.assertTrue(self.loader("download", *arguments)[1].strip().endswith("exp/two/b.pth"))
        os.utime(self.remote / "exp" / "one" / "a.pth", (4_000_000_000, 4_000_000_000))  # the directory keeps its date
        self.assertTrue(self.loader("download", "latest")[1].strip().endswith("exp/one/a.pth"))
        several = json.loads(self.loader("download", "--json", "--run", "exp:two", "a", "latest", "b")[1])
        self.assertEqual([Path(path).name for path in several["checkpoints"]], ["a.pth", "b.pth"])
        self.assertTrue(several["config"].endswith("config.json"))

    def test_the_list_shows_how_far_runs_are(self) -> None:
        storage = DirectoryStorage(self.remote)
        write_status(storage, RunId("exp", "two"), RunStatus(step=70, best="dev_loss 0.5"))
        table = self.loader("list")[1]
        self.assertRegex(table, r"exp:two .* 70 +running +dev_loss 0.5")
        (row,) = [row for row in json.loads(self.loader("list", "--json")[1]) if row["run"] == "exp:two"]
        self.assertEqual((row["step"], row["state"], row["metric"]), (70, "running", "dev_loss 0.5"))
        self.assertEqual(row["size"], sum(file.size for file in storage.files(RunId("exp", "two"))))

    def test_a_download_to_an_empty_place_asks_for_no_checksums(self) -> None:
        with mock.patch("hw_asr.storage.directory.md5_of", wraps=md5_of) as md5_of_file:
            self.loader("download", "--run", "exp:two", "a")
        self.assertEqual(
            [], [call.args[0] for call in md5_of_file.call_args_list if self.remote in call.args[0].parents]
        )

    def test_a_path_is_no_name_of_a_checkpoint(self) -> None:
        path = self.models / "exp" / "up" / "last.pth"
        path.parent.mkdir(parents=True)
        for file in (path, path.with_name("config.json")):
            file.write_text("{}")
        status, _, errors = self.loader("upload", "--run", "exp:up", str(path))
        self.assertEqual(1, status)
        self.assertIn("give the name of a checkpoint", errors)

    def test_a_download_brings_the_record_of_metrics(self) -> None:
        (self.remote / "exp" / "two" / "metrics.jsonl").write_text('{"step": 1}\n')
        self.loader("download", "--run", "exp:two", "a")
        record = self.models.parent / "log" / "exp" / "two" / "metrics.jsonl"
        self.assertEqual(record.read_text(), '{"step": 1}\n')

    def test_existing_files_are_verified_and_not_downloaded_again(self) -> None:
        path = Path(self.loader("download", "best")[1].strip())
        stamp = path.stat().st_mtime_ns
        _, _, errors = self.loader("download", "best")
        self.assertEqual(errors.count("already downloaded and verified"), 2)
        self.assertEqual(path.stat().st_mtime_ns, stamp)
        content = path.read_text()
        path.write_text(content.replace("finetuned", "finetunex"))  # of the same size
        self.loader("download", "best")
        self.assertEqual(path.read_text(), content)

    def test_upload(self) -> None:
        local = self.add(self.models, "exp:new", ["a", "model_best", "z"])
        for path in local.glob("*.pth"):
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("data", path.stem * 1000)
        half = local / "half.pth"
        half.write_bytes((local / "a.pth").read_bytes()[:-30])
        status, _, errors = self.loader("upload", "--run", "exp:new", "a", "half")
        self.assertEqual(status, 1)
        self.assertIn("half.pth: not a whole checkpoint; nothing was uploaded", errors)
        self.assertEqual(DirectoryStorage(self.remote).files(RunId("exp", "new")), [])
        half.unlink()
        status, _, errors = self.loader("upload", "--run", "exp:new", "a", "best", "latest")
        self.assertEqual((status, errors), (0, ""))
        stored = DirectoryStorage(self.remote).files(RunId("exp", "new"))
        self.assertEqual([file.name for file in stored], ["a.pth", "config.json", "model_best.pth", "z.pth"])
        self.assertTrue(all(file.is_copied_to(local / file.name) for file in stored))
        self.assertIn("already on the storage, identical", self.loader("upload", "--run", "exp:new", "a")[2])

    def test_errors_are_one_line_with_the_nearest_names(self) -> None:
        self.add(self.models, "exp:local", ["model_best"])
        cases = {
            ("download", "--run", "exp:tow"): r"run exp:tow: not on the storage; there are: exp:one, exp:two, ",
            ("download", "--run", "exp:two", "c"): r"has no c.pth on the storage; there are: a.pth, b.pth, config.json",
            ("download", "--run", "one"): "expected EXPERIMENT:RUN",
            ("download", "--run", "../..:x"): "expected EXPERIMENT:RUN",
            ("upload", "--run", "exp:loacl", "best"): "not in .*; there are: exp:local",
            ("upload", "--run", "exp:local", "last"): "has no last.pth; there are: config.json, model_best.pth",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments):
                status, out, errors = self.loader(*arguments)
                self.assertEqual((status, out), (1, ""))
                self.assertRegex(errors, f"^error: .*{message}")
                self.assertEqual(errors.count("\n"), 1)
        for number in range(50):
            self.add(self.remote, f"many:run{number}", ["a"])
        self.assertRegex(self.loader("download", "--run", "many:rum7")[2], "; nearest of 53: many:run7, ")

    def test_faulty_storage_configs(self) -> None:
        for spec, message in (
            ({"type": "DirectoryStorge", "args": {}}, "storage.type: unknown .* did you mean 'DirectoryStorage'"),
            ({"type": "DirectoryStorage", "args": {"pth": 1}}, "storage.args.pth: unknown key"),
            ({"type": "FsspecStorage", "args": {"url": "x"}}, "storage.args.url: expected PROTOCOL"),
        ):
            self.write_config(spec)
            self.assertRegex(self.loader("list")[2], message)
        for checkpoint in (5, None):
            best = {"run": BEST_RUN, "checkpoint": checkpoint}
            storage = {"type": "DirectoryStorage", "args": {"path": str(self.remote)}}
            self.config.write_text(json.dumps({**storage, "best": best}))
            self.assertRegex(self.loader("list")[2], "best: expected .*, got ")
        self.config.write_text("{")
        self.assertRegex(self.loader("list")[2], "not JSON")
        storage = {"type": "DirectoryStorage", "args": {"path": str(self.remote)}}
        self.config.write_text(json.dumps({"name": "exp", "trainer": {"external_storage": storage}}))
        self.assertEqual(self.loader("list")[0], 0)
        self.assertRegex(self.loader("download", "best")[2], "has no `best`")


class DriveLoaderTest(DriveCase):
    def setUp(self) -> None:
        super().setUp()
        self.models = self.directory / "saved" / "models"
        self.config = self.directory / "storage.json"
        args = {
            "storage_folder_id": ROOT,
            "service_account_key_filepath": str(self.key_path),
            "endpoint": self.drive.url,
            "first_wait": 0.001,
        }
        best = {"run": BEST_RUN, "checkpoint": "model_best"}
        self.config.write_text(json.dumps({"type": "GDriveStorage", "args": args, "best": best}))

    def put_best(self, config: Path, checkpoint: Path) -> None:
        for path, name in ((config, "config.json"), (checkpoint, "model_best.pth")):
            self.storage().upload(path, RunId.parse(BEST_RUN), name)

    def test_download_best_of_the_published_layout(self) -> None:
        published = self.directory / "published"
        published.mkdir()
        write_published(published)
        self.put_best(published / "config.json", published / "model_best.pth")
        status, out, _ = call("download", "best", "-c", self.config, "-p", self.models)
        path = Path(out.strip())
        self.assertEqual(status, 0)
        self.assertEqual(path, (self.models / "kaggle_deepspeech2_1+6_finetuning/finetuned1/model_best.pth").absolute())
        self.assertEqual(md5_of(path), md5_of(published / "model_best.pth"))
        self.assertEqual(md5_of(path.with_name("config.json")), md5_of(published / "config.json"))

        output = self.directory / "output.json"
        done = subprocess.run(
            [sys.executable, "test.py", "-r", str(path), "-t", str(recording()), "-o", str(output), "-d", "cpu"],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        (entry,) = json.loads(output.read_text(encoding="utf-8"))
        self.assertIn("pred_text_beam_search", entry)

    def test_no_network(self) -> None:
        self.drive.close()
        status, _, errors = call("list", "-c", self.config)
        self.assertEqual((status, errors.count("\n")), (1, 1))
        self.assertRegex(errors, "^error: Google Drive: no connection .* network")

    def test_login_reports_whether_uploads_are_possible(self) -> None:
        self.assertRegex(call("login", "-c", self.config)[2], "is a service account")
        self.drive.items[ROOT]["driveId"] = "shared drive"
        self.assertEqual(call("login", "-c", self.config)[:2], (0, "Uploads to this storage are possible.\n"))
        self.drive.can_write = False
        self.assertRegex(call("login", "-c", self.config)[2], "may only read it")

    @unittest.skipUnless(os.name == "posix", "needs SIGINT")
    def test_an_interrupt_leaves_no_partial_file(self) -> None:
        self.put_best(self.file(100), self.file(9 << 20, seed=1))
        self.drive.slow_seconds = DEADLINE
        self.drive.fail("slow", "GET", r"/files/id\d+$", times=100)
        self.drive.faults[-1].times = 100
        command = [sys.executable, str(SCRIPT), "download", "best", "-c", str(self.config), "-p", str(self.models)]
        loader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
        wait_until(lambda: list(self.models.rglob("*.part")))
        loader.send_signal(signal.SIGINT)
        _, errors = loader.communicate(timeout=DEADLINE)
        self.assertEqual(loader.returncode, 130)
        self.assertIn("interrupted", errors)
        self.assertEqual([path for path in self.models.rglob("*") if path.is_file()], [])


class ShippedConfigTest(unittest.TestCase):
    def test_the_shipped_config_is_valid_and_names_the_published_best(self) -> None:
        catalogue = Catalogue.read(REPOSITORY / "gdrive_storage" / "external_storage.json")
        self.assertEqual((str(catalogue.best_run), catalogue.best_checkpoint), (BEST_RUN, "model_best"))
        self.assertIn("1XmURU5KBdxDcP_zFHbe06FSThHYqVy_S", repr(catalogue.storage))


if __name__ == "__main__":
    unittest.main()
