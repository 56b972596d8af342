"""Checkpoints: written completely or not at all, read without running code, explained when they do not fit."""

from __future__ import annotations

import errno
import os
import pickle
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from hw_asr.checkpoints.reading import CheckpointError, load_checkpoint
from hw_asr.checkpoints.weights import load_weights
from hw_asr.checkpoints.writing import link_checkpoint, save_checkpoint
from hw_asr.config.registry import MODELS
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.tests.published_layout import NAME, SECRET, write_published


class Trap:
    """Runs a command when it is unpickled by a reader that runs code."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._witness}",)


class Attributes:
    """A class that a reader of checkpoints must not know."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class CheckpointTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.path = self.folder / "last.pth"

    def test_a_link_that_exists_already_leaves_nothing_behind(self) -> None:
        path, other = self.folder / "last.pth", self.folder / "previous.pth"
        save_checkpoint({"state_dict": {}}, path, other)
        link_checkpoint(path, other)
        self.assertEqual(sorted(file.name for file in self.folder.iterdir()), ["last.pth", "previous.pth"])

    def test_round_trip(self) -> None:
        state = {
            "state_dict": {"weight": torch.randn(3, 2), "count": torch.tensor(7)},
            "half": torch.randn(2).bfloat16(),
            "progress": {"epoch": 3, "best": 0.25, "names": ["a", None, True], "window": {}},
            "betas": (0.9, 0.999),
        }
        save_checkpoint(state, self.path, self.folder / "model_best.pth")
        for path in (self.path, self.folder / "model_best.pth"):
            loaded = load_checkpoint(path)
            torch.testing.assert_close(loaded["state_dict"], state["state_dict"])
            self.assertTrue(torch.equal(loaded["half"], state["half"]))
            self.assertEqual((state["progress"], state["betas"]), (loaded["progress"], loaded["betas"]))

    def test_a_copy_keeps_its_content_when_the_original_is_replaced(self) -> None:
        best = self.folder / "model_best.pth"
        save_checkpoint({"state_dict": {}, "epoch": 1}, self.path, best)
        save_checkpoint({"state_dict": {}, "epoch": 2}, self.path)
        self.assertEqual((2, 1), (load_checkpoint(self.path)["epoch"], load_checkpoint(best)["epoch"]))

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(self) -> None:
        save_checkpoint({"state_dict": {}, "epoch": 1}, self.path)
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch("os.fsync", side_effect=full), self.assertRaisesRegex(CheckpointError, "disk is full"):
            save_checkpoint({"state_dict": {}, "epoch": 2}, self.path)
        self.assertEqual(1, load_checkpoint(self.path)["epoch"])
        self.assertEqual([self.path], list(self.folder.iterdir()))

    def test_a_failed_copy_has_a_reason(self) -> None:
        save_checkpoint({"state_dict": {}, "epoch": 1}, self.path)
        no_links = mock.patch.object(Path, "hardlink_to", side_effect=OSError(errno.EPERM, "Operation not permitted"))
        full = mock.patch("shutil.copyfileobj", side_effect=OSError(errno.ENOSPC, "No space left on device"))
        with no_links, full, self.assertRaisesRegex(CheckpointError, "previous.pth: .*disk is full"):
            link_checkpoint(self.path, self.folder / "previous.pth")
        self.assertEqual([self.path], list(self.folder.iterdir()))

    def test_a_file_with_a_trap_is_not_executed(self) -> None:
        witness = self.folder / "executed"
        trap = Trap(witness)
        torch.save({"state_dict": {"weight": torch.ones(1)}, "trap": trap, "nested": [{"deep": trap}]}, self.path)
        loaded = load_checkpoint(self.path)
        self.assertFalse(witness.exists())
        self.assertIsNone(loaded["trap"])
        self.assertEqual([{"deep": None}], loaded["nested"])
        pickle.loads(pickle.dumps(trap))  # the trap is a real one
        self.assertTrue(witness.exists())

    def test_a_file_that_is_only_a_trap(self) -> None:
        witness = self.folder / "executed"
        torch.save(Trap(witness), self.path)
        with self.assertRaisesRegex(CheckpointError, "no `state_dict`"):
            load_checkpoint(self.path)
        self.assertFalse(witness.exists())

    def test_only_the_config_of_foreign_objects_is_kept(self) -> None:
        config = Attributes(_config={"name": "x", "trainer": {"epochs": 1}}, _secret="token")
        torch.save({"state_dict": {}, "config": config, "storage": Attributes(credentials="secret")}, self.path)
        loaded = load_checkpoint(self.path)
        self.assertEqual({"name": "x", "trainer": {"epochs": 1}}, loaded["config"])
        self.assertIsNone(loaded["storage"])
        self.assertNotIn("secret", repr(loaded))

    def test_every_truncation_gets_one_line(self) -> None:
        save_checkpoint({"state_dict": {"weight": torch.randn(100)}}, self.path)
        whole = self.path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            self.path.write_bytes(whole[:length])
            with self.subTest(length=length), self.assertRaises(CheckpointError) as caught:
                load_checkpoint(self.path)
            self.assertIn("cut short", str(caught.exception))
            self.assertNotIn("\n", str(caught.exception))

    def test_a_damaged_byte_is_reported_or_harmless(self) -> None:
        state = {"state_dict": {"weight": torch.zeros(4)}}
        save_checkpoint(state, self.path)
        whole = bytearray(self.path.read_bytes())
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << position % 8
            self.path.write_bytes(damaged)
            try:
                loaded = load_checkpoint(self.path)
            except CheckpointError as error:
                self.assertNotIn("\n", str(error))
            else:
                self.assertEqual(loaded["state_dict"]["weight"].tolist(), [0.0] * 4)

    def test_a_member_marked_as_encrypted_is_damaged(self) -> None:
        save_checkpoint({"state_dict": {"weight": torch.zeros(4)}}, self.path)
        damaged = bytearray(self.path.read_bytes())
        for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            damaged[damaged.find(mark) + flags] |= 1
        self.path.write_bytes(damaged)
        with self.assertRaisesRegex(CheckpointError, "damaged: .* is encrypted"):
            load_checkpoint(self.path)

    def test_foreign_files(self) -> None:
        for content in (b"hello", pickle.dumps({"state_dict": {}})):
            self.path.write_bytes(content)
            with self.assertRaisesRegex(CheckpointError, "not a checkpoint"):
                load_checkpoint(self.path)
        with zipfile.ZipFile(self.path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        with self.assertRaisesRegex(CheckpointError, "not a checkpoint"):
            load_checkpoint(self.path)

    def test_a_missing_file_lists_the_files_in_its_directory(self) -> None:
        save_checkpoint({"state_dict": {}}, self.folder / "model_best.pth")
        with self.assertRaisesRegex(CheckpointError, r"no such checkpoint.*model_best\.pth"):
            load_checkpoint(self.path)

    def test_weights_that_do_not_fit_are_explained(self) -> None:
        model = torch.nn.Linear(3, 2)
        with self.assertRaisesRegex(CheckpointError, r"weight is \[2, 4\] in the checkpoint and \[2, 3\] in the model"):
            load_weights(model, torch.nn.Linear(4, 2).state_dict(), self.path)
        with self.assertRaisesRegex(CheckpointError, "lacks bias.*the model has no scale"):
            load_weights(model, {"weight": torch.zeros(2, 3), "scale": torch.zeros(1)}, self.path)


class PublishedCheckpointTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "model_best.pth"
        self.references = write_published(self.path.parent)
        self.state = load_checkpoint(self.path)

    def test_only_weights_and_config_are_read(self) -> None:
        self.assertEqual(("DeepSpeech2", 57), (self.state["arch"], self.state["epoch"]))
        self.assertEqual(self.state["config"]["name"], NAME)
        self.assertNotIn(SECRET, repr(self.state))
        with zipfile.ZipFile(self.path) as archive:
            self.assertIn(SECRET.encode(), archive.read("model_best/data.pkl"))

    def test_logits_one_by_one_and_as_one_padded_batch(self) -> None:
        arch = self.state["config"]["arch"]
        self.assertEqual(MODELS.check(arch, "arch", ["n_class"]), [])
        model: DeepSpeech2 = MODELS.build(arch, n_class=28)
        load_weights(model, self.state["state_dict"], self.path)
        model.eval()
        lengths = torch.tensor([features.shape[1] for features, _ in self.references])
        self.assertEqual(
            model.transform_input_lengths(lengths).tolist(), [len(logits) for _, logits in self.references]
        )
        batch = torch.zeros(len(lengths), 128, int(lengths.max()))
        for row, (features, _) in zip(batch, self.references, strict=True):
            row[:, : features.shape[1]] = features
        with torch.no_grad():
            together = model(batch, lengths)
            for index, (features, expected) in enumerate(self.references):
                alone = model(features[None], lengths[index : index + 1])[0]
                self.assertLessEqual(float((alone - expected).abs().max()), 1e-5)
                self.assertLessEqual(float((together[index, : len(expected)] - expected).abs().max()), 1e-5)


if __name__ == "__main__":
    unittest.main()
