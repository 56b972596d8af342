"""The status of a run in a storage: who trains it, and that a second machine does not."""

from __future__ import annotations

import errno
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

from hw_asr.storage.directory import DirectoryStorage
from hw_asr.storage.exporter import ExportedFile
from hw_asr.storage.external import StorageUnavailable
from hw_asr.storage.heartbeat import Heartbeat, wait_until_stale
from hw_asr.storage.run_names import RunError, RunId
from hw_asr.storage.run_status import STATUS_NAME, RunStatus, read_status, write_status
from hw_asr.tests.waiting import wait_until

RUN = RunId("exp", "one")


class StatusCase(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.storage = DirectoryStorage(Path(directory.name))
        self.path = Path(directory.name, *RUN, STATUS_NAME)

    def status(self) -> RunStatus:
        status = read_status(self.storage, RUN)
        assert status is not None
        return status


class StatusTest(StatusCase):
    def test_what_is_written_is_read(self) -> None:
        self.assertIsNone(read_status(self.storage, RUN))
        status = RunStatus(checkpoint="last.pth", step=7, md5="abc")
        write_status(self.storage, RUN, status)
        self.assertEqual(self.status(), status)

    def test_a_file_that_is_no_status_is_none(self) -> None:
        write_status(self.storage, RUN, RunStatus())
        for content in (
            "", "[]", '"running"', '{"state": "asleep"}', '{"state": "running", "step": "7"}',
            '{"state": "running", "checkpoint": "../../x.pth"}', '{"state": "running", "interval": null}', "\udcff",
            '{"state": "running", "checkpoint": "config.json"}', "[" * 9000, '{"state": "running"}' + " " * 10_000,
        ):  # fmt: skip
            self.path.write_text(content, encoding="utf-8", errors="surrogateescape")
            self.assertIsNone(read_status(self.storage, RUN), content)


class StaleTest(StatusCase):
    def wait(self, status: RunStatus) -> list[float]:
        waits: list[float] = []
        wait_until_stale(self.storage, RUN, status, waits.append)
        return waits

    def test_a_machine_that_stopped_is_not_waited_for(self) -> None:
        for state in ("stopped", "finished"):
            self.assertEqual(self.wait(RunStatus(state=state)), [])

    def test_a_machine_without_a_sign_of_life_is_gone(self) -> None:
        status = RunStatus(interval=20)
        write_status(self.storage, RUN, status)
        self.assertEqual(self.wait(status), [60])

    def test_a_machine_that_is_alive_keeps_the_run(self) -> None:
        before = RunStatus(host="process 1 on there")
        write_status(self.storage, RUN, before.next_beat())
        with self.assertRaisesRegex(
            RunError, "run exp:one is being trained by process 1 on there; stop it there first"
        ):
            self.wait(before)

    def test_the_interval_of_a_stranger_is_bounded(self) -> None:
        self.assertEqual(self.wait(RunStatus(interval=1e12)), [900])


class HeartbeatTest(StatusCase):
    def heartbeat(self, interval: float = 0.01, step: int = 0) -> Heartbeat:
        self.lost: list[str] = []
        return Heartbeat(self.storage, RUN, interval, self.lost.append, step=step)

    def test_it_beats_and_names_what_continues_the_run(self) -> None:
        heartbeat = self.heartbeat()
        heartbeat.start()
        first = self.status().beat
        wait_until(lambda: self.status().beat > first + 2)
        for file in (("last.pth", 5, "a"), ("config.json", 9, "b"), ("model_best.pth", 6, "c"), ("old.pth", 4, "d")):
            heartbeat.exported(ExportedFile(*file))
        heartbeat.close("stopped")
        status = self.status()
        self.assertEqual(
            (status.state, status.checkpoint, status.step, status.md5), ("stopped", "model_best.pth", 6, "c")
        )

    def test_a_new_machine_keeps_what_continues_the_run(self) -> None:
        write_status(self.storage, RUN, RunStatus(checkpoint="last.pth", step=3, md5="x", owner="other"))
        heartbeat = self.heartbeat(step=3)
        heartbeat.start()
        heartbeat.close("finished")
        status = self.status()
        self.assertEqual((status.state, status.checkpoint, status.step), ("finished", "last.pth", 3))
        self.assertNotEqual(status.owner, "other")

    def test_what_was_given_up_does_not_continue_the_run(self) -> None:
        write_status(self.storage, RUN, RunStatus(checkpoint="last.pth", step=30, md5="x", owner="other"))
        heartbeat = self.heartbeat(step=3)
        heartbeat.start()
        heartbeat.exported(ExportedFile("checkpoint-epoch2.pth", 5, "a"))
        heartbeat.close("stopped")
        self.assertEqual((self.status().checkpoint, self.status().step), ("checkpoint-epoch2.pth", 5))

    def test_a_storage_that_fails_at_the_start_is_taken_over_later(self) -> None:
        for error in (StorageUnavailable("down"), OSError(errno.ENOSPC, "disk full")):
            with self.subTest(error):
                write_status(self.storage, RUN, RunStatus(owner="dead", host="process 1 on gone"))
                heartbeat = self.heartbeat()
                with mock.patch("hw_asr.storage.heartbeat.write_status", side_effect=error):
                    heartbeat.start()
                wait_until(lambda: self.status().owner != "dead")
                heartbeat.close("stopped")
                self.assertEqual(([], "stopped"), (self.lost, self.status().state))

    def test_another_machine_is_noticed_and_left_alone(self) -> None:
        heartbeat = self.heartbeat()
        heartbeat.start()
        other = RunStatus(owner="other", host="process 2 on there")
        write_status(self.storage, RUN, other)
        # A beat that was on its way may replace the other's status once; the other writes again, as it would.
        wait_until(lambda: bool(self.lost) or write_status(self.storage, RUN, other))
        self.assertEqual(self.lost, ["process 2 on there"])
        self.assertTrue(heartbeat.is_lost)
        heartbeat.close("stopped")
        write_status(self.storage, RUN, other)
        self.assertEqual(self.status().state, "running")

    def test_the_status_is_newer_than_every_export(self) -> None:
        heartbeat = self.heartbeat(interval=60)
        heartbeat.start()
        for step in (9, 4):
            before = self.status().beat
            heartbeat.exported(ExportedFile("last.pth", step, "a"))
            wait_until(lambda before=before: self.status().beat > before)
        heartbeat.close("stopped")
        self.assertEqual(9, self.status().step)

    def test_a_run_that_another_machine_continued_and_stopped_is_left_alone(self) -> None:
        heartbeat = self.heartbeat(interval=60)
        heartbeat.start()
        heartbeat.exported(ExportedFile("last.pth", 100, "a"))
        wait_until(lambda: self.status().step == 100)
        other = RunStatus(owner="other", host="process 2 on there", state="stopped", checkpoint="last.pth", step=100)
        write_status(self.storage, RUN, other)
        self.assertFalse(heartbeat.is_taken_over(self.storage))  # it ended before a step of its own
        further = replace(other, step=5000)
        write_status(self.storage, RUN, further)
        self.assertTrue(heartbeat.is_taken_over(self.storage))
        heartbeat.close("stopped")
        self.assertEqual(([other.host], further), (self.lost, self.status()))


if __name__ == "__main__":
    unittest.main()
