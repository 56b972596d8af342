"""Runs that a person started on this machine need no permission to go on; others bring none along."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import unittest
from unittest import mock

from hw_asr.config import ConfigError
from hw_asr.experiment.checkpoint_config import for_training
from hw_asr.experiment.config_effects import effects
from hw_asr.experiment.config_permissions import Named
from hw_asr.experiment.remembered_runs import NAME, is_remembered, remember, state_dir
from hw_asr.tests.received_case import ReceivedCase, changed
from hw_asr.tests.training_case import TrainingCase, run_dir


class RememberedTest(ReceivedCase):
    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(self.folder / "state")})
        patch.start()
        self.addCleanup(patch.stop)
        self.raw = changed(text_encoder={"type": "Letters", "module": "planted_module"})
        self.raw["data"]["root_dir"] = str(self.folder)

    def test_what_a_person_started_needs_no_permission_again_and_may_be_moved(self) -> None:
        checkpoint = self.checkpoint(self.raw)
        remember(checkpoint.parent, effects(self.raw))
        for_training(checkpoint, Named())
        moved = shutil.copytree(checkpoint.parent, self.folder / "models" / "tiny" / "moved")
        for_training(moved / "best.pth", Named())
        self.assertEqual(0o600, stat.S_IMODE((state_dir() / "key").stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(state_dir().stat().st_mode))

    def test_an_edited_value_is_not_covered(self) -> None:
        checkpoint = self.checkpoint({**self.raw, "arch": {"type": "X", "module": "os"}})
        remember(checkpoint.parent, effects(self.raw))
        with self.assertRaises(ConfigError) as caught:
            for_training(checkpoint, Named())
        self.assertEqual(1, len(caught.exception.faults))
        self.assertIn("--allow-module os", caught.exception.faults[0])

    def test_permissions_of_another_machine_are_worth_nothing(self) -> None:
        checkpoint = self.checkpoint(self.raw)
        with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(self.folder / "other")}):
            remember(checkpoint.parent, effects(self.raw))
        self.assertTrue((checkpoint.parent / NAME).is_file())
        remember(self.folder, effects(self.raw))  # this machine has a key, too
        with self.assertRaises(ConfigError):
            for_training(checkpoint, Named())

    def test_a_key_that_others_could_write_is_not_used(self) -> None:
        checkpoint = self.checkpoint(self.raw)
        remember(checkpoint.parent, effects(self.raw))
        effect = effects(self.raw)[0]
        self.assertTrue(is_remembered(checkpoint.parent, effect))
        (state_dir() / "key").chmod(0o644)
        with self.assertLogs("hw_asr", "WARNING"):
            self.assertFalse(is_remembered(checkpoint.parent, effect))

    def test_threads_agree_on_one_key(self) -> None:
        checkpoint = self.checkpoint(self.raw)
        directories = [self.folder / str(index) for index in range(8)]
        threads = [threading.Thread(target=remember, args=(each, effects(self.raw))) for each in directories]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(1, len({(each / NAME).read_bytes() for each in directories}))
        self.assertEqual(["key"], [path.name for path in state_dir().iterdir()])
        self.assertFalse(is_remembered(checkpoint.parent, effects(self.raw)[0]))

    def test_no_place_for_the_key_is_a_warning(self) -> None:
        (self.folder / "state").write_text("a file")
        with self.assertLogs("hw_asr", "WARNING") as logs:
            remember(self.folder, effects(self.raw))
        self.assertIn("--trust-config", logs.output[0])


class TrainingTest(TrainingCase):
    def test_a_run_started_here_goes_on_and_one_from_elsewhere_asks(self) -> None:
        place = self.place(self.config(epochs=1, len_epoch=2))
        self.train(place, "-c", "config.json")
        last = str(run_dir(place) / "last.pth")
        self.assertIn("nothing to do", self.train(place, "-r", last))
        (run_dir(place) / NAME).unlink()
        output = self.train(place, "-r", last, "--check", code=2)
        self.assertIn("data.train.datasets[0].args.data: ", output)
        output = self.train(place, "-r", last, code=2)
        self.assertIn("--trust-config", output)
        (run_dir(place) / "config.json").unlink()
        self.assertIn("nothing to do", self.train(place, "-r", last, "--trust-config"))
        self.assertTrue((run_dir(place) / "config.json").is_file(), "taken from the checkpoint")
        self.assertIn("nothing to do", self.train(place, "-r", last))


if __name__ == "__main__":
    unittest.main()
