"""The W&B writer; offline runs are read back from their files."""

from __future__ import annotations

import http.server
import json
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import soundfile
import torch

from hw_asr.config.registry import WRITERS
from hw_asr.errors import UserError
from hw_asr.tests.waiting import DEADLINE
from hw_asr.writers import wandb, wandb_file
from hw_asr.writers.base import AudioClip, LoggedRun
from hw_asr.writers.wandb_account import is_reachable, key_is_known

ROOT = Path(__file__).resolve().parents[2]


def tearDownModule() -> None:
    import wandb

    wandb.teardown(0)  # its own exit hook stumbles over the boolean that unittest exits with


def wandb_records(path: Path) -> Iterator[Any]:
    """Complete records of an offline run: wandb's protobuf messages in LevelDB's log format (blocks of 32 KiB)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = 7, []
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + length > len(data):
            return
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def wandb_history(path: Path) -> dict[int, dict[str, Any]]:
    history: dict[int, dict[str, Any]] = {}
    for record in wandb_records(path):
        if record.HasField("history"):
            row = {}
            for item in record.history.item:
                value = json.loads(item.value_json) if item.value_json else None
                if item.HasField("value"):
                    kind = item.value.WhichOneof("value")
                    value = getattr(item.value, kind)
                row[item.key or ".".join(item.nested_key)] = value
            history.setdefault(record.history.step.num, {}).update(row)
    return history


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without anything that W&B reads, at home in an empty directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB") and name != "NETRC"}
    return kept | {"HOME": str(home), "WANDB_ERROR_REPORTING": "false", **more}


class TemporaryHome(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        self.log_dir = self.home / "log" / "run"


class WandbOfflineTest(TemporaryHome):
    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.dict(os.environ, clean_environment(self.home), clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        logging.getLogger("hw_asr.writers.wandb").setLevel(logging.WARNING)

    def writer(self, state: dict[str, Any] | None = None, **options: Any) -> Any:
        spec = {"type": "wandb", "args": {"mode": "offline", "tags": ["demo"]}}
        run = LoggedRun("first", self.log_dir, "exp", {"arch": {"type": "DeepSpeech2"}}, state)
        provided = {"project": "asr_project", "run": run}
        self.assertEqual([], WRITERS.check(spec, "writer", provided))
        return WRITERS.build(spec, **provided, **options)

    def record_file(self) -> Path:
        return next(self.log_dir.glob("wandb/offline-run-*/run-*.wandb"))

    def test_what_was_logged_is_read_back(self) -> None:
        writer = self.writer()
        for step in range(300):
            writer.scalars(step, {"train/loss": step / 8, "lr": torch.tensor(0.5)})
        writer.scalars(299, {"val/loss": 7.0})
        clip = AudioClip(torch.sin(torch.arange(1600) / 5), 16000)
        writer.table(300, "predictions", ["target", "audio"], [["<b>один</b>", clip], ["two", clip]])
        writer.image(301, "spectrogram", torch.zeros(20, 30, 3, dtype=torch.uint8))
        writer.histogram(302, "weights", torch.tensor([1.0, 2.0, float("nan")], dtype=torch.bfloat16))
        writer.histogram(302, "empty", torch.tensor([float("nan")]))
        writer.close()

        history = wandb_history(self.record_file())
        self.assertEqual(list(range(303)), sorted(history))
        for step in range(300):
            self.assertEqual((step / 8, 0.5), (history[step]["train/loss"], history[step]["lr"]))
        self.assertEqual(7.0, history[299]["val/loss"])
        files = self.record_file().parent / "files"
        table = json.loads((files / history[300]["predictions.path"]).read_text(encoding="utf-8"))
        self.assertEqual(["target", "audio"], table["columns"])
        self.assertEqual("<b>один</b>", table["data"][0][0])
        clips = [path for path in self.log_dir.glob("artifacts/staging/*") if path.read_bytes()[:4] == b"RIFF"]
        self.assertEqual([1600, 1600], [soundfile.info(path).frames for path in clips])
        self.assertEqual((30, 20), (history[301]["spectrogram.width"], history[301]["spectrogram.height"]))
        self.assertEqual(2, sum(history[302]["weights.values"]))
        self.assertFalse([key for key in history[302] if key.startswith("empty")])

        run = next(record.run for record in wandb_records(self.record_file()) if record.HasField("run"))
        self.assertEqual(
            ("asr_project", "first", "exp", ["demo"]), (run.project, run.display_name, run.run_group, list(run.tags))
        )
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        self.assertEqual({"type": "DeepSpeech2"}, config["arch"])

    def test_any_name_of_an_experiment_is_a_project(self) -> None:
        run = LoggedRun("r" * 200, self.log_dir, "e" * 200)
        wandb.WandbWriter("50% of #1? " + "x" * 200, run, mode="offline").close()
        (logged,) = [record.run for record in wandb_records(self.record_file()) if record.HasField("run")]
        self.assertEqual("50- of -1- " + "x" * 117, logged.project)
        self.assertEqual(("r" * 128, "e" * 128), (logged.display_name, logged.run_group))

    def test_what_wandb_refuses_is_an_error(self) -> None:
        with self.assertRaisesRegex(UserError, "W&B cannot start: .*[Tt]ag"):
            wandb.WandbWriter("p", LoggedRun("r", self.log_dir), mode="offline", tags=["t" * 100])

    def test_close_waits_for_the_end_of_the_file(self) -> None:
        writer = self.writer(finish_timeout=0.05)
        writer.scalars(0, {"loss": 1.0})
        complete = self.record_file()
        writer.close()
        self.assertTrue(wandb_file.wait_for_exit(complete, DEADLINE))
        writer._offline_file = self.home / "incomplete"
        for size in reversed(range(7, complete.stat().st_size + 1)):  # W&B may write a record after the exit
            writer._offline_file.write_bytes(complete.read_bytes()[:size])
            has_exit = any(record.HasField("exit") for record in wandb_records(writer._offline_file))
            self.assertEqual(has_exit, wandb_file.has_exit(writer._offline_file), size)
        self.assertFalse(has_exit)
        with self.assertLogs("hw_asr.writers.wandb", "WARNING") as logs:
            writer.close()
        self.assertRegex(logs.output[0], "W&B has not completed .*incomplete after 0.05 s; the end of the run may be")

    def test_the_exit_is_found_behind_many_blocks(self) -> None:
        writer = self.writer()
        for step in range(40):
            writer.scalars(step, {f"a rather long name of a value {index}": 0.0 for index in range(100)})
        writer.close()
        self.assertGreater(self.record_file().stat().st_size, 4 * wandb_file.BLOCK_SIZE)
        self.assertEqual(40, len(wandb_history(self.record_file())))

    def test_a_resumed_run_keeps_its_id(self) -> None:
        first = self.writer()
        state = json.loads(json.dumps(first.state_dict()))
        first.close()
        second = self.writer(state=state)
        second.scalars(5, {"loss": 1.0})
        second.close()
        self.assertEqual(state, second.state_dict())
        self.assertTrue(self.record_file().name.endswith(f"{state['wandb_id']}.wandb"))

    def test_disabled_writes_nothing_and_keeps_the_id(self) -> None:
        with mock.patch.dict(os.environ, {"WANDB_MODE": "disabled"}):
            writer = wandb.WandbWriter("p", LoggedRun("r", self.log_dir, state={"wandb_id": "abc"}))
        writer.scalars(0, {"loss": 1.0})
        writer.close()
        self.assertEqual({"wandb_id": "abc"}, writer.state_dict())
        self.assertFalse(list(self.log_dir.rglob("*.wandb")))

    def test_online_continues_the_run_and_sends_no_step_twice(self) -> None:
        run = mock.Mock(id="abc", starting_step=5)
        with (
            mock.patch("wandb.init", return_value=run) as init,
            mock.patch.object(wandb, "is_reachable", return_value=True),
            mock.patch.dict(os.environ, {"WANDB_API_KEY": "k" * 40}),
        ):
            writer = wandb.WandbWriter("p", LoggedRun("r", self.log_dir, state={"wandb_id": "abc"}))
        self.assertEqual(
            ("abc", "allow", "online"), tuple(init.call_args.kwargs[key] for key in ("id", "resume", "mode"))
        )
        for step in (3, 4, 5, 6):
            writer.scalars(step, {"loss": float(step)})
        self.assertEqual([5, 6], [call.kwargs["step"] for call in run.log.call_args_list])


class WandbAccountTest(TemporaryHome):
    PROGRAM = (
        "import logging, sys, time; from pathlib import Path; from hw_asr.writers.wandb import LoggedRun, WandbWriter\n"
        "logging.basicConfig(format='%(levelname)s %(message)s')\n"
        "writer = WandbWriter('p', LoggedRun('r', Path(sys.argv[1]))); writer.scalars(0, {'loss': 2.0}); writer.close()"
    )

    def run_writer(self, stdin: int = subprocess.DEVNULL, **variables: str) -> str:
        """Log one step in a process of its own, check that it stands in an offline run, return what was printed."""
        done = subprocess.run(
            [sys.executable, "-c", self.PROGRAM, str(self.log_dir)],
            cwd=ROOT, env=clean_environment(self.home, **variables), stdin=stdin, timeout=DEADLINE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.assertEqual(0, done.returncode, done.stdout)
        record = next(self.log_dir.glob("wandb/offline-run-*/run-*.wandb"))
        self.assertEqual(2.0, wandb_history(record)[0]["loss"])
        self.assertEqual(1, done.stdout.count("WARNING"), done.stdout)
        return done.stdout

    @unittest.skipUnless(os.name == "posix", "needs a pseudo-terminal")
    def test_without_a_key_it_goes_offline_and_asks_nobody(self) -> None:
        controller, terminal = os.openpty()
        try:
            printed = self.run_writer(stdin=terminal)
        finally:
            os.close(controller)
            os.close(terminal)
        self.assertIn("no API key", printed)
        self.assertIn("wandb sync", printed)

    def test_with_a_key_and_no_network_it_goes_offline(self) -> None:
        for key in ("k" * 40, "k" * 40 + "\n"):
            printed = self.run_writer(WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:9")
            self.assertIn("no response from http://127.0.0.1:9", printed)
            shutil.rmtree(self.log_dir)

    def test_with_a_key_the_server_refuses_it_goes_offline(self) -> None:
        class Refusing(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(401)
                self.end_headers()

            do_POST = do_GET  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        self.assertTrue(is_reachable(url))
        self.assertIn("401", self.run_writer(WANDB_API_KEY="k" * 40, WANDB_BASE_URL=url))

    def test_a_server_that_says_nothing_is_not_waited_for(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            self.assertFalse(is_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2))
        self.assertFalse(is_reachable("no address at all"))

    def test_where_keys_are_found(self) -> None:
        url = "https://wandb.example:8443"
        with mock.patch.dict(os.environ, clean_environment(self.home), clear=True):
            self.assertFalse(key_is_known(url))
            self.assertTrue(key_is_known(url, configured_key="k"))
            (self.home / ".netrc").write_text("machine wandb.example:8443 login user password secret\n")
            (self.home / ".netrc").chmod(0o600)
            self.assertTrue(key_is_known(url))
            self.assertFalse(key_is_known("https://elsewhere.example"))
            os.environ["WANDB_API_KEY"] = "k"
            self.assertTrue(key_is_known("https://elsewhere.example"))


if __name__ == "__main__":
    unittest.main()
