"""What can go wrong inside training costs a step, or ends with a reason and a state to go on from."""

import json
import os
import signal
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import parse, read_json
from hw_asr.experiment.network import load_network
from hw_asr.tests.training_case import TrainingCase, outcome, run_dir, wait_for_step
from scripts.average_checkpoints import main as average_checkpoints


class FaultCase(TrainingCase):
    def faulty(self, faults: dict[str, Any], **trainer: Any) -> Path:
        config = self.config(**{"epochs": 1, "len_epoch": 6, "accumulate_grad_steps": 1, "log_step": 1, **trainer})
        config["arch"] = {"type": "FaultyModel", "module": "hw_asr.tests.faulty_model", "args": faults}
        config["data"]["train"]["num_workers"] = 0
        return self.place(config)


class TestFaults(FaultCase):
    def test_bad_steps_are_skipped_and_counted(self) -> None:
        place = self.faulty({"out_of_memory": [1], "not_finite": [3]})
        output = self.train(place, "-c", "config.json")
        self.assertRegex(output, r"warning: out of memory on a batch of 3 x \d+ samples")
        state, metrics = outcome(place)
        self.assertEqual(metrics[-1]["steps skipped: out of memory"], 1)
        self.assertEqual(metrics[-1]["steps skipped: not finite"], 1)
        self.assertTrue(all(bool(value.isfinite().all()) for value in state["state_dict"].values()))
        self.assertEqual([int(each["step"]) for each in state["optimizer"]["state"].values()][:1], [4])
        self.assertEqual(state["state_dict"]["cnn_block.block.1.num_batches_tracked"], 4)  # as if they had not been
        self.assertEqual([line["step"] for line in metrics], [1, 3, 5, 6, 6])

    def test_too_many_in_a_row_end_the_run(self) -> None:
        for fault, remedy in (("out_of_memory", "lower data.train.batch_size"), ("not_finite", "lower optimizer")):
            with self.subTest(fault):
                place = self.faulty({fault: [2, 3, 4]}, max_bad_steps=3, save_steps=1)
                output = self.train(place, "-c", "config.json", code=1)
                self.assertRegex(output, rf"error: 3 steps in a row were skipped .*{remedy}.*continue with -r")
                self.assertTrue((run_dir(place) / "last.pth").is_file())

    def test_a_diverged_run_is_called_diverged(self) -> None:
        place = self.faulty({}, max_bad_steps=100, save_steps=1)
        options = ["--set", 'optimizer={"type": "SGD", "args": {"lr": 3e38}}', "--set", "lr_scheduler=null"]
        output = self.train(place, "-c", "config.json", *options, code=1)
        self.assertRegex(output, "error: val: the model's outputs are not numbers .NaN.: training has diverged; lower")
        self.assertNotIn("Traceback", output)
        with self.assertRaisesRegex(CheckpointError, r"last.pth: .* is not finite: training has diverged; use an"):
            load_network(
                parse(read_json(place / "config.json")),
                torch.device("cpu"),
                load_checkpoint(run_dir(place) / "last.pth")["state_dict"],
                run_dir(place) / "last.pth",
            )

    def test_a_dead_worker_ends_the_run_saved(self) -> None:
        place = self.place(self.endless_config())
        process = self.server.start(["-c", "config.json", "-d", "cpu"], place, place / "output.txt")
        wait_for_step(place / "output.txt", 2)
        children = Path(f"/proc/{process}/task/{process}/children")
        if not children.is_file():
            os.kill(process, signal.SIGKILL)
            self.server.wait(process)
            self.skipTest("this system has no /proc/PID/task/PID/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        self.assertEqual(self.server.wait(process), 1)
        output = (place / "output.txt").read_text(encoding="utf-8")
        self.assertRegex(
            output, r"saved; to continue: python train.py -r .*last.pth\nerror: a data loading process died"
        )
        last = str(run_dir(place) / "last.pth")
        self.train(place, "-r", last, "--set", f"trainer.epochs={outcome(place)[0]['progress']['epoch']}")


class TestOptions(FaultCase):
    def test_bf16_average_of_weights_and_deterministic_kernels(self) -> None:
        place = self.faulty({}, precision="bf16", ema_decay=0.5, deterministic=True, epochs=2)
        self.train(place, "-c", "config.json")
        state, metrics = outcome(place)
        self.assertEqual(state["ema_updates"], 12)
        averaged, trained = state["state_dict"]["linear.weight"], state["training_state_dict"]["linear.weight"]
        self.assertEqual((averaged.dtype, trained.dtype), (torch.float32, torch.float32))
        self.assertFalse(torch.equal(averaged, trained))
        self.assertTrue(torch.allclose(averaged, trained, atol=0.05))
        self.assertLess(metrics[-1]["val_loss"], 6)
        finished = self.train(place, "-r", str(run_dir(place) / "last.pth"), "--set", "trainer.epochs=3")
        self.assertNotIn("error", finished)
        self.assertEqual(outcome(place)[0]["ema_updates"], 18)

    def test_seeds(self) -> None:
        outcomes = []
        for seed in (0, 0, 1):
            place = self.faulty({}, seed=seed)
            self.train(place, "-c", "config.json")
            outcomes.append(outcome(place)[0]["state_dict"]["linear.weight"])
        self.assertTrue(torch.equal(outcomes[0], outcomes[1]))
        self.assertFalse(torch.equal(outcomes[0], outcomes[2]))

    def test_average_of_checkpoints(self) -> None:
        place = self.faulty({}, epochs=3, keep_last=1, keep_every=2)
        self.train(place, "-c", "config.json")
        directory = run_dir(place)
        kept = sorted(directory.glob("checkpoint-epoch*.pth"))
        self.assertEqual([path.stem for path in kept], ["checkpoint-epoch2", "checkpoint-epoch3"])
        with redirect_stdout(StringIO()) as said:
            self.assertEqual(average_checkpoints([*map(str, kept), "-o", str(directory / "average.pth")]), 0)
        self.assertIn("average of 2 checkpoints", said.getvalue())
        first, last, average = (
            outcome(place, name)[0]["state_dict"] if name != "average" else load(directory / "average.pth")
            for name in ("checkpoint-epoch2", "checkpoint-epoch3", "average")
        )
        for name, value in average.items():
            both = torch.stack([first[name], last[name]])
            expected = both.mean(0) if value.is_floating_point() else last[name]
            torch.testing.assert_close(value, expected, msg=name)

    def test_the_longest_batch_alone(self) -> None:
        place = self.faulty({})
        output = self.train(place, "-c", "config.json", "--check-batch")
        self.assertRegex(output, r"longest batch +3 recordings, \d\.\d s each at most: a step of \d+\.\d s")
        self.assertFalse((place / "saved").exists())
        output = self.train(self.faulty({"out_of_memory": [0]}), "-c", "config.json", "--check-batch", code=1)
        self.assertIn("error: the longest batch does not fit", output)

    def test_the_longest_batch_that_can_be_decoded(self) -> None:
        config = self.config()
        config["data"]["train"] = {"batch_size": 1, "datasets": config["data"]["train"]["datasets"]}
        place = self.place(config)
        (place / "broken.wav").write_bytes(b"RIFF")
        rows = [json.loads(line) for line in (self.corpora / "train.jsonl").read_text().splitlines()]
        rows = [{**row, "path": str(self.corpora / row["path"])} for row in rows]
        rows.append({"path": str(place / "broken.wav"), "text": "ab", "duration": 9.0})
        (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = "data.train.datasets.0.args.data=train.jsonl"
        output = self.train(place, "-c", "config.json", "--check-batch", "--set", data)
        self.assertRegex(output, r"longest batch +1 recordings, 0\.\d s each at most")


def load(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


if __name__ == "__main__":
    unittest.main()
