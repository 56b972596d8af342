"""Two processes train like one with twice the batch, fail together and print one message."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import unittest
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.config import parse
from hw_asr.experiment.network import make_network
from hw_asr.runtime.processes import Processes
from hw_asr.tests.training_case import TrainingCase, outcome, run_dir, wait_for_step
from hw_asr.tests.training_server import ROOT
from hw_asr.tests.waiting import wait_until
from hw_asr.training.progress import Progress

BASELINE = {"type": "BaselineModel", "args": {"fc_hidden": 16}}


def faulty(**args: Any) -> dict[str, Any]:
    """Return the spec of a model with batch normalisation that fails as specified."""
    return {"type": "FaultyModel", "module": "hw_asr.tests.faulty_model", "args": args}


def free_port() -> int:
    """Return a port below those that systems assign to connections, so that it stays free until it is used."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def has_ended(process: int) -> bool:
    """Whether a process is gone, or waits only for somebody to read its exit code."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


class ProcessesCase(TrainingCase):
    def plain_config(self, arch: dict[str, Any], batch_size: int, **trainer: Any) -> dict[str, Any]:
        """Return a config without what draws at random per process."""
        defaults = {"epochs": 2, "accumulate_grad_steps": 1, "len_epoch": None}
        config = self.config(**{**defaults, **trainer})
        del config["augmentations"], config["data"]["train"]["batch_sampler"]
        config["arch"] = arch
        config["data"]["train"] |= {"batch_size": batch_size, "num_workers": 0}
        config["optimizer"] = {"type": "SGD", "args": {"lr": 0.05}}
        return {**config, "lr_scheduler": None}

    def start_two(self, place: Path, *arguments: str) -> list[int]:
        """Start two connected processes, as torchrun would."""
        port = free_port()
        common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [
            self.server.start(
                [*arguments, "-d", "cpu"], place, place / f"{rank}.txt",
                {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip

    def end_two(self, place: Path, processes: list[int]) -> tuple[list[int], list[str]]:
        """Return the exit codes and the outputs."""
        codes = [self.server.wait(process) for process in processes]
        return codes, [(place / f"{rank}.txt").read_text(encoding="utf-8") for rank in range(2)]

    def train_two(self, place: Path, *arguments: str) -> list[str]:
        codes, outputs = self.end_two(place, self.start_two(place, *arguments))
        self.assertEqual(codes, [0, 0], outputs)
        return outputs


class TestEquality(ProcessesCase):
    def assert_equal_runs(self, arch: dict[str, Any], *arguments: str, **trainer: Any) -> None:
        configs = [self.plain_config(arch, size, **trainer) for size in (6, 3)]
        one, two = self.place(configs[0]), self.place({**configs[1], "n_gpu": 9})
        self.train(one, "-c", "config.json", *arguments)
        outputs = self.train_two(two, "-c", "config.json", *arguments)
        self.assertEqual(outputs[1], "")
        self.assertEqual(outputs[0].count("warning: n_gpu is 9, but this machine has"), 1)
        (state_one, metrics_one), (state_two, metrics_two) = outcome(one), outcome(two)
        for name, weight in state_one["state_dict"].items():
            torch.testing.assert_close(state_two["state_dict"][name], weight, rtol=1e-5, atol=1e-5, msg=name)
        keys = ("step", "epoch", "train_loss", "train_grad_norm", "val_loss", "val_CER (argmax)", "other_loss")
        for line_one, line_two in zip(metrics_one, metrics_two, strict=True):
            for key in keys:
                self.assertAlmostEqual(line_one.get(key, 0), line_two.get(key, 0), delta=2e-5, msg=f"{key} {line_one}")

    def test_without_batch_normalisation(self) -> None:
        self.assert_equal_runs(BASELINE)

    def test_with_synchronised_batch_normalisation(self) -> None:
        self.assert_equal_runs(faulty())

    def test_from_another_alphabet_with_a_part_that_is_frozen_in_the_first_epoch(self) -> None:
        arch = self.config()["arch"]
        arch["args"]["gru_config"]["dropout"] = 0.0  # drawn per process
        start = self.place({}) / "start.pth"
        raw = self.plain_config(arch, 1, seed=9)
        raw["text_encoder"]["args"]["alphabet"] = "zcbd"
        state_dict = make_network(parse(raw), torch.device("cpu")).model.state_dict()
        save_checkpoint({"state_dict": state_dict, "alphabet": list("^zcbd")}, start)
        transfer = {"freeze": ["cnn_block", "linear"], "unfreeze_after_epochs": 1}
        self.assert_equal_runs(arch, "-r", str(start), transfer=transfer, ema_decay=0.9)


class TestFaults(ProcessesCase):
    def test_out_of_memory_on_one_skips_the_step_on_both(self) -> None:
        place = self.place(self.plain_config(faulty(out_of_memory=[1], rank=1), 3))
        outputs = self.train_two(place, "-c", "config.json")
        self.assertRegex(outputs[1], r"out of memory on a batch of 3 x \d+ samples")
        self.assertIn("step 2 skipped: out of memory (1 in a row)", outputs[0])
        _, metrics = outcome(place)
        self.assertEqual(metrics[-1]["steps skipped: out of memory"], 1)
        self.assertEqual(metrics[-1]["step"], 8)

    def test_a_first_step_without_recordings_on_one(self) -> None:
        config = self.plain_config(BASELINE, 1, epochs=1, precision="fp16")
        place = self.place(config)
        (place / "broken.wav").write_bytes(b"RIFF")
        rows = [json.loads((self.corpora / "train.jsonl").read_text().splitlines()[0])]
        rows[0]["path"] = str(self.corpora / rows[0]["path"])
        rows.append({"path": str(place / "broken.wav"), "text": "ab", "duration": 0.5})
        (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.train_two(place, "-c", "config.json", "--set", "data.train.datasets.0.args.data=train.jsonl")
        self.assertEqual(outcome(place)[0]["progress"]["step"], 1)

    def test_not_finite_on_one_skips_the_step_on_both(self) -> None:
        place = self.place(self.plain_config(faulty(not_finite=[1], rank=1), 3))
        self.train_two(place, "-c", "config.json")
        state, metrics = outcome(place)
        self.assertEqual(metrics[-1]["steps skipped: not finite"], 1)
        self.assertTrue(all(bool(weight.isfinite().all()) for weight in state["state_dict"].values()))

    def test_one_message(self) -> None:
        for name, arch in (("both", faulty(not_finite=[1])), ("one", faulty(error=[1], rank=1))):
            with self.subTest(name):
                place = self.place(self.plain_config(arch, 3, max_bad_steps=1))
                codes, outputs = self.end_two(place, self.start_two(place, "-c", "config.json"))
                said = "".join(outputs)
                self.assertEqual(codes, [1, 1], said)
                self.assertEqual(said.count("error: "), 1, said)
                self.assertNotIn("Traceback", said)

    def test_a_killed_process_ends_the_other_with_a_message(self) -> None:
        place = self.place(self.plain_config(BASELINE, 3, epochs=1000, early_stop=None))
        processes = self.start_two(place, "-c", "config.json")
        wait_for_step(place / "0.txt", 2)
        os.kill(processes[1], signal.SIGKILL)
        codes, outputs = self.end_two(place, processes)
        self.assertEqual(codes, [1, -signal.SIGKILL])
        self.assertRegex(outputs[0], "error: another process died without an error.*-r last.pth\n$")
        self.assertNotIn("Traceback", outputs[0])

    def test_one_message_about_a_config(self) -> None:
        place = self.place({**self.plain_config(BASELINE, 3), "nam": "typo"})
        codes, outputs = self.end_two(place, self.start_two(place, "-c", "config.json"))
        self.assertEqual((codes, outputs[1]), ([2, 1], ""))
        self.assertIn("nam: unknown key", outputs[0])


class TestResume(ProcessesCase):
    def test_another_number_of_processes_goes_on(self) -> None:
        place = self.place(self.plain_config(BASELINE, 3, epochs=40))
        processes = self.start_two(place, "-c", "config.json")
        wait_for_step(place / "0.txt", 2)
        os.kill(processes[1], signal.SIGTERM)  # one is enough
        codes, outputs = self.end_two(place, processes)
        self.assertEqual(codes, [143, 143], outputs)
        before, _ = outcome(place)
        last = str(run_dir(place) / "last.pth")
        epoch = before["progress"]["epoch"]
        self.train(place, "-r", last, "--set", f"trainer.epochs={epoch}")
        after, _ = outcome(place)
        left_of_epoch = 8 - 2 * before["progress"]["step_in_epoch"]  # alone it takes 8 steps, of 3 utterances each
        self.assertEqual(after["progress"]["step"], before["progress"]["step"] + left_of_epoch)
        self.assertEqual((after["progress"]["data_pass"], after["progress"]["batch_in_pass"]), (epoch, 0))
        self.train_two(place, "-r", last, "--set", f"trainer.epochs={epoch + 1}")
        self.assertEqual(outcome(place)[0]["progress"]["step"], after["progress"]["step"] + 4)

    def test_a_tensor_outlives_its_exchange(self) -> None:
        """Otherwise the thread that exchanged it may release it last, and leaving the group waits for it forever."""
        processes, values = Processes(0, 2), torch.zeros(1)
        reference = weakref.ref(values)
        with mock.patch.object(torch.distributed, "all_reduce"):
            processes.sum_tensor(values)
            del values
            self.assertIsNotNone(reference())

    def test_places(self) -> None:
        progress = Progress(step_in_epoch=5, batch_in_pass=5, num_processes=2)
        progress.share_among(3, steps_per_pass=7)
        self.assertEqual((progress.batch_in_pass, progress.step_in_epoch, progress.num_processes), (3, 3, 3))
        progress.share_among(1)
        self.assertEqual((progress.batch_in_pass, progress.step_in_epoch, progress.num_processes), (9, 3, 1))
        progress = Progress(step_in_epoch=1, batch_in_pass=4, num_processes=1)
        progress.share_among(2, steps_per_pass=2, batches_per_step=4)  # a step is not divided
        self.assertEqual((progress.batch_in_pass, progress.step_in_epoch), (0, 0))
        progress = Progress(step_in_epoch=5, batch_in_pass=0, num_processes=1)
        progress.share_among(2, steps_per_pass=3)  # interrupted in the evaluation
        self.assertEqual((progress.batch_in_pass, progress.step_in_epoch), (0, 3))


class TestTorchrun(ProcessesCase):
    def test_torchrun(self) -> None:
        place = self.place(self.plain_config(faulty(), 3, epochs=1))
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            str(ROOT / "train.py"), "-c", "config.json", "-d", "cpu",
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(outcome(place)[0]["progress"]["num_processes"], 2)

    @unittest.skipUnless(sys.platform == "linux", "the processes of torchrun are found in /proc")
    def test_processes_end_when_torchrun_is_killed(self) -> None:
        config = {**self.plain_config(faulty(), 3, epochs=1000), "lr_scheduler": None}
        place = self.place(config)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            str(ROOT / "train.py"), "-c", "config.json", "-d", "cpu",
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with (place / "output.txt").open("w") as output:
            torchrun = subprocess.Popen(command, cwd=place, env=environment, stdout=output, stderr=output)
        wait_for_step(place / "output.txt", 2)
        children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
        ranks = [int(number) for number in children]
        self.assertEqual(len(ranks), 2)
        torchrun.kill()
        torchrun.wait()
        wait_until(lambda: all(has_ended(rank) for rank in ranks))
        self.assertIn("saved; to continue", (place / "output.txt").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
