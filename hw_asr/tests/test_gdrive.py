"""Google Drive with the real client over real HTTP: what it stores, and what it does when the network does not."""

from __future__ import annotations

import functools
import tracemalloc
import unittest
from pathlib import Path
from unittest import mock

from hw_asr.config.registry import STORAGES
from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import Damaged, StorageUnavailable, md5_of
from hw_asr.storage.gdrive import GDriveStorage
from hw_asr.storage.run_names import RunId
from hw_asr.tests.drive_case import CHUNK, RUN, DriveCase
from hw_asr.tests.drive_emulator import FOLDER, ROOT

UPLOAD = "/upload/"
# What may go wrong while a file goes up: (kind, method, path, reason).
UPLOAD_FAULTS = [
    (500, "POST", UPLOAD, ""),
    (503, "PUT", UPLOAD, ""),
    (429, "PUT", UPLOAD, ""),
    (403, "PUT", UPLOAD, "userRateLimitExceeded"),
    (401, "PUT", UPLOAD, "authError"),
    (404, "PUT", UPLOAD, "notFound"),
    (410, "PUT", UPLOAD, ""),
    (500, "GET", "/files$", "backendError"),
    (500, "POST", "/drive/v2/files$", ""),
    (500, "PUT", r"/drive/v2/files/\w+$", ""),
    ("cut", "PUT", UPLOAD, ""),
    ("slow", "PUT", UPLOAD, ""),
    ("lost", "PUT", UPLOAD, ""),
    ("lost", "POST", UPLOAD, ""),
    ("lost", "POST", "/drive/v2/files$", ""),
    ("damaged", "PUT", UPLOAD, ""),
]
MEDIA = r"/files/id\d+$"
DOWNLOAD_FAULTS = [
    (500, "GET", MEDIA, ""),
    (503, "GET", MEDIA, ""),
    (429, "GET", MEDIA, ""),
    (403, "GET", MEDIA, "rateLimitExceeded"),
    (401, "GET", MEDIA, "authError"),
    (404, "GET", MEDIA, "notFound"),
    (503, "GET", "/files$", ""),
    ("cut", "GET", MEDIA, ""),
    ("slow", "GET", MEDIA, ""),
    ("damaged", "GET", MEDIA, ""),
]


class GDriveTest(DriveCase):
    def test_layout_and_round_trip(self) -> None:
        storage = self.storage()
        self.assertEqual(storage.runs(), [])
        self.assertEqual(storage.files(RUN), [])
        for size, name in ((0, "empty.pth"), (7, "config.json"), (3 * CHUNK, "even.pth"), (3 * CHUNK + 1, "odd.pth")):
            path = self.file(size)
            seen: list[tuple[int, int]] = []
            storage.upload(path, RUN, name, lambda done, total, seen=seen: seen.append((done, total)))
            self.assertEqual(seen[-1], (size, size))
            self.assertEqual(self.drive.tree()[f"experiment/one/{name}"], md5_of(path))
            target = self.directory / "down" / name
            storage.download(RUN, name, target, lambda done, total: None)
            self.assertEqual(target.read_bytes(), path.read_bytes())
            stored = next(file for file in storage.files(RUN) if file.name == name)
            self.assertEqual((stored.size, stored.md5), (size, md5_of(path)))
            self.assertTrue(stored.is_copied_to(target))
        self.assertEqual([str(run.id) for run in storage.runs()], ["experiment:one"])
        self.assertEqual(names_in(self.directory / "down"), [file.name for file in storage.files(RUN)])

    def test_quotes_and_unicode_in_names(self) -> None:
        storage = self.storage()
        for experiment in ("it's", "ü–ß ' or '1", 'say "a+b"'):
            run = RunId(experiment, "лучший's")
            storage.upload(self.file(), run, "it's ü.pth")
            storage.upload(self.file(), run, "it's ü.pth")
            self.assertIn(run, [each.id for each in storage.runs()])
            self.assertEqual([file.name for file in storage.files(run)], ["it's ü.pth"])
        self.assertEqual(len(self.drive.tree()), 3)

    def test_folders_are_made_once_when_answers_are_lost(self) -> None:
        self.drive.fail("lost", "POST", "^/drive/v2/files$", times=3)
        self.storage().upload(self.file(), RUN, "best.pth")
        folders = [item["title"] for item in self.drive.items.values() if item["mimeType"] == FOLDER]
        self.assertEqual(sorted(folders), ["experiment", "one", "root"])

    def test_second_export_updates_in_place(self) -> None:
        storage = self.storage()
        storage.upload(self.file(), RUN, "best.pth")
        before = [item["id"] for item in self.drive.items.values() if item["title"] == "best.pth"]
        storage.upload(self.file(seed=1), RUN, "best.pth")
        self.assertEqual([i["id"] for i in self.drive.items.values() if i["title"] == "best.pth"], before)
        self.assertEqual(self.drive.tree(), {"experiment/one/best.pth": md5_of(self.file(seed=1))})

    def test_duplicates_made_by_others(self) -> None:
        storage = self.storage()
        storage.upload(self.file(), RUN, "other.pth")
        folder = next(item["id"] for item in self.drive.items.values() if item["title"] == "one")
        for content in (b"older", b"newer"):
            self.drive.put_file("best.pth", folder, content)
        storage.download(RUN, "best.pth", self.directory / "best.pth")
        self.assertEqual((self.directory / "best.pth").read_bytes(), b"newer")
        storage.upload(self.file(), RUN, "best.pth")
        self.assertEqual(set(self.drive.tree()), {"experiment/one/other.pth", "experiment/one/best.pth"})
        twin = self.drive.add("experiment", FOLDER, [ROOT])
        run_twin = self.drive.add("one", FOLDER, [twin["id"]])
        self.drive.put_file("extra.pth", run_twin["id"], b"extra")
        self.assertEqual([run.id for run in storage.runs()], [RUN])
        self.assertEqual([file.name for file in storage.files(RUN)], ["best.pth", "extra.pth", "other.pth"])

    def test_every_fault_of_an_upload_is_survived(self) -> None:
        for kind, method, path, reason in UPLOAD_FAULTS:
            with self.subTest(kind=kind, method=method, path=path):
                self.drive.items = {ROOT: self.drive.items[ROOT]}
                self.drive.faults.clear()
                storage = self.storage(**({"timeout": 1.0} if kind == "slow" else {}))
                self.drive.slow_seconds = 1.5
                for seed in range(2):
                    self.drive.fail(kind, method, path, reason=reason)
                    storage.upload(self.file(seed=seed), RUN, "best.pth")
                    self.assertEqual(self.drive.tree(), {"experiment/one/best.pth": md5_of(self.file(seed=seed))})
                self.assertEqual(self.drive.faults[0].times, 0, "the fault did not happen")

    def test_every_fault_of_a_download_is_survived(self) -> None:
        self.storage().upload(self.file(), RUN, "best.pth")
        for kind, method, path, reason in DOWNLOAD_FAULTS:
            with self.subTest(kind=kind, method=method, path=path):
                self.drive.slow_seconds = 1.5
                storage = self.storage(**({"timeout": 1.0} if kind == "slow" else {}))
                storage.runs()
                self.drive.fail(kind, method, path, reason=reason)
                target = self.directory / "down" / f"{kind}.pth"
                storage.download(RUN, "best.pth", target)
                self.assertEqual(target.read_bytes(), self.file().read_bytes())
                self.assertEqual(self.drive.faults[-1].times, 0, "the fault did not happen")
        self.assertFalse([name for name in names_in(self.directory / "down") if name.endswith(".part")])

    def test_cut_transfers_go_on_where_they_broke(self) -> None:
        path = self.file(12 * CHUNK)
        storage = self.storage()
        storage.runs()
        self.drive.fail("cut", "PUT", UPLOAD, times=3)
        self.drive.bytes_up = 0
        storage.upload(path, RUN, "best.pth")
        self.assertLess(self.drive.bytes_up, path.stat().st_size + 4 * CHUNK)
        self.drive.fail("cut", "GET", MEDIA, times=3)
        storage.download(RUN, "best.pth", self.directory / "down.pth")
        self.assertLess(self.drive.bytes_down, path.stat().st_size + 4 * CHUNK)
        self.assertEqual(md5_of(self.directory / "down.pth"), md5_of(path))

    def test_a_dead_drive_is_given_up_and_leaves_nothing(self) -> None:
        self.storage().upload(self.file(), RUN, "best.pth")
        for kind in (503, "cut"):
            with self.subTest(kind):
                self.drive.faults.clear()
                self.drive.fail(kind, "GET", MEDIA, times=100)
                with self.assertRaisesRegex(StorageUnavailable, "^Google Drive"):
                    self.storage().download(RUN, "best.pth", self.directory / "down" / "best.pth")
                self.assertEqual(names_in(self.directory / "down"), [])
                self.drive.fail(kind, "PUT", UPLOAD, times=100)
                with self.assertRaises(StorageUnavailable):
                    self.storage().upload(self.file(seed=1), RUN, "best.pth")
                self.assertEqual(self.drive.tree(), {"experiment/one/best.pth": md5_of(self.file())})
                self.assertGreater(self.drive.faults[-1].times, 80, "too many attempts")

    def test_what_stays_damaged_never_has_the_final_name(self) -> None:
        storage = self.storage()
        self.drive.fail("damaged", "PUT", UPLOAD, times=100)
        for _ in range(2):
            with self.assertRaises(Damaged):
                storage.upload(self.file(), RUN, "best.pth")
            self.assertEqual(storage.files(RUN), [])
        self.drive.faults.clear()
        storage.upload(self.file(), RUN, "best.pth")
        self.assertEqual(self.drive.tree(), {"experiment/one/best.pth": md5_of(self.file())})
        self.drive.fail("damaged", "PUT", UPLOAD, times=100)
        with self.assertRaises(Damaged):
            storage.upload(self.file(seed=1), RUN, "best.pth")
        self.assertEqual(storage.files(RUN), [])
        self.drive.faults.clear()
        self.drive.fail("damaged", "GET", MEDIA, times=100)
        storage.upload(self.file(), RUN, "best.pth")
        with self.assertRaises(Damaged):
            storage.download(RUN, "best.pth", self.directory / "best.pth")
        self.assertFalse((self.directory / "best.pth").exists())

    def test_retry_after_is_heeded(self) -> None:
        storage = self.storage()
        self.drive.fail(429, "GET", "/files$", Retry_After="7")
        waits: list[float] = []
        patient = functools.partial(Backoff, wait=waits.append)
        with mock.patch("hw_asr.storage.gdrive.Backoff", patient):
            storage.runs()
        self.assertEqual(waits, [7.0])

    def test_many_runs_over_many_pages_take_few_requests(self) -> None:
        for number in range(60):
            experiment = self.drive.add(f"e{number:02}", FOLDER, [ROOT])
            for name in ("a", "b"):
                self.drive.add(name, FOLDER, [experiment["id"]])
        storage = self.storage()
        self.assertEqual(len(storage.runs()), 120)
        self.assertEqual(self.drive.requests.count("GET /drive/v2/files"), 3)
        self.drive.page_size = 7
        self.assertEqual(len(storage.runs()), 120)

    def test_hostile_names_are_not_listed(self) -> None:
        experiment = self.drive.add("exp", FOLDER, [ROOT])
        self.drive.add("../..", FOLDER, [experiment["id"]])
        run = self.drive.add("run", FOLDER, [experiment["id"]])
        for title in ("../../evil.pth", "/etc/evil.pth", ".hidden.pth"):
            self.drive.put_file(title, run["id"], b"evil")
        storage = self.storage()
        self.assertEqual([run.id for run in storage.runs()], [RunId("exp", "run")])
        self.assertEqual(storage.files(RunId("exp", "run")), [])

    def test_no_network_is_said_at_once(self) -> None:
        self.drive.close()
        storage = self.storage(attempts=50, first_wait=5.0)
        with self.assertRaisesRegex(StorageUnavailable, "^Google Drive: no connection .*network") as caught:
            storage.runs()
        self.assertNotIn("\n", str(caught.exception))

    def test_the_stock_client_reads_what_we_write_and_the_other_way_round(self) -> None:
        from pydrive2.drive import GoogleDrive

        storage = self.storage()
        storage.upload(self.file(100), RUN, "best.pth")
        session = storage._sessions[True]
        auth = session._auth
        with mock.patch.object(type(auth), "service", mock.Mock(files=lambda: session.files)):
            client = GoogleDrive(auth)
            folder = next(item["id"] for item in self.drive.items.values() if item["title"] == "one")
            found = client.ListFile({"q": f"'{folder}' in parents and trashed = false"}).GetList()
            self.assertEqual([file["title"] for file in found], ["best.pth"])
            found[0].GetContentFile(str(self.directory / "stock.pth"))
            self.assertEqual(md5_of(self.directory / "stock.pth"), md5_of(self.file(100)))
            made = client.CreateFile({"title": "config.json", "parents": [{"id": folder}]})
            made.SetContentString('{"name": "stock"}')
            made.Upload()
            auth.thread_local.http.close()
        storage.download(RUN, "config.json", self.directory / "config.json")
        self.assertEqual((self.directory / "config.json").read_text(), '{"name": "stock"}')

    def test_memory_stays_flat(self) -> None:
        path = self.file(96 * CHUNK)  # 24 MiB
        storage = self.storage()
        storage.upload(self.file(10, seed=1), RUN, "small.pth")
        for transfer in (storage.upload, lambda *args: storage.download(RUN, "big.pth", self.directory / "big.pth")):
            tracemalloc.start()
            transfer(path, RUN, "big.pth")
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(peak, 16 * CHUNK)
        self.assertEqual(md5_of(self.directory / "big.pth"), md5_of(path))


class ConfigTest(unittest.TestCase):
    def test_published_config_is_valid(self) -> None:
        args = {"storage_folder_id": "abc", "client_credentials_filepath": "client_secrets.json"}
        spec = {"type": "GDriveStorage", "args": args}
        self.assertEqual(STORAGES.check(spec, "trainer.external_storage"), [])
        self.assertIsInstance(STORAGES.build(spec), GDriveStorage)
        with self.assertRaisesRegex(ValueError, "^endpoint: expected an https"):
            GDriveStorage("abc", endpoint="http://drive.example.com/")
        with self.assertRaisesRegex(ValueError, "^storage_folder_id: "):
            GDriveStorage("")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


if __name__ == "__main__":
    unittest.main()
