"""Runs kept on Google Drive: FOLDER / EXPERIMENT / RUN / files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.config.registry import STORAGES
from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import (
    Damaged,
    ExternalStorage,
    Progress,
    RemoteFile,
    RemoteRun,
    StorageError,
    md5_of_stream,
    verify,
)
from hw_asr.storage.gdrive_auth import Login
from hw_asr.storage.gdrive_errors import Gone
from hw_asr.storage.gdrive_public import PublicFolder
from hw_asr.storage.gdrive_session import ENDPOINT, FOLDER, IS_FILE, IS_FOLDER, Item, Session, described, modified
from hw_asr.storage.gdrive_transfer import download_content, upload_content
from hw_asr.storage.run_names import RunId, is_safe_name
from hw_asr.storage.secrets import require_encrypted

if TYPE_CHECKING:  # imported only for Google Drive, without annotations
    from googleapiclient.http import HttpRequest, MediaUpload

_ATTEMPTS_FOR_A_WHOLE_FILE = 3
logger = logging.getLogger(__name__)


@STORAGES.register()
class GDriveStorage(ExternalStorage):
    """Keeps runs in the folder of the given id, shared with the account that logs in.

    Without credentials a folder that is shared by link can be read, but not written. Credentials are read when first
    needed: `client_credentials_filepath` is the client secrets file of a personal
    login, `service_account_key_filepath` a path, an https address or "$NAME" for an environment variable. Each request
    is tried `attempts` times and waits `timeout` seconds for an answer.
    """

    def __init__(
        self,
        storage_folder_id: str,
        client_credentials_filepath: Path | None = None,
        service_account_key_filepath: str | None = None,
        attempts: int = 6,
        timeout: float = 60.0,
        first_wait: float = 1.0,
        endpoint: str = ENDPOINT,
    ) -> None:
        if not storage_folder_id:
            raise ValueError("storage_folder_id: expected the last part of the folder's address, got nothing")
        if attempts < 1:
            raise ValueError(f"attempts: expected at least 1, got {attempts}")
        if timeout <= 0 or first_wait < 0:
            raise ValueError(f"timeout, first_wait: expected seconds, got {timeout} and {first_wait}")
        require_encrypted(endpoint, "endpoint")
        self._folder = storage_folder_id
        self._login = Login(client_credentials_filepath, service_account_key_filepath, timeout)
        self._attempts, self._first_wait = attempts, first_wait
        self._endpoint = endpoint.rstrip("/") + "/"
        self._public = PublicFolder(storage_folder_id, attempts, timeout)
        self._sessions: dict[bool, Session] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"GDriveStorage({self._folder!r})"

    def check_writable(self) -> None:
        """Raise StorageError when the folder is missing or read-only for this login, or its storage is full."""
        with self._session(write=True) as session:
            account = session.account()
            user = account.get("user", {}).get("emailAddress", "this account")
            try:
                folder = session.folder(self._folder)
            except Gone:
                message = f"Google Drive folder {self._folder}: not found, or not shared with {user}"
                raise StorageError(message) from None
        if folder.get("mimeType") != FOLDER or folder.get("labels", {}).get("trashed"):
            raise StorageError(f"Google Drive folder {self._folder}: not a folder, or in the trash")
        if not folder.get("capabilities", {}).get("canAddChildren"):
            raise StorageError(
                f"Google Drive folder {self._folder}: {user} may only read it; share it with {user} as Editor, or set "
                "client_credentials_filepath to log in as an account that may write"
            )
        if "driveId" in folder:
            return  # on a shared drive the organisation's quota counts
        if self._login.uses_service_account:
            raise StorageError(
                f"Google Drive: {user} is a service account, which has no storage of its own to upload into; log in "
                "with a personal account by client_credentials_filepath, or use a folder on a shared drive"
            )
        free = int(account.get("quotaBytesTotal", 0)) - int(account.get("quotaBytesUsedAggregate", 0))
        if account.get("quotaType") == "LIMITED" and free <= 0:
            raise StorageError(f"Google Drive: the storage of {user} is full; empty its trash or use another account")

    def runs(self) -> list[RemoteRun]:
        """All runs; one request per 1000 experiments and per 1000 runs, or little more."""
        if not self._login.has_credentials():
            return self._public.runs()
        found: dict[RunId, float] = {}
        with self._session() as session:
            experiments = {item["id"]: item["title"] for item in session.children([self._folder], IS_FOLDER)}
            for item in session.children(list(experiments), IS_FOLDER):
                for parent in item["parents"]:
                    run = RunId(experiments.get(parent["id"], ""), item["title"])
                    if is_safe_name(run.experiment) and is_safe_name(run.name):
                        found[run] = max(found.get(run, 0.0), modified(item))
        return [RemoteRun(run, newest) for run, newest in sorted(found.items())]

    def files(self, run: RunId, checksums: bool = True) -> list[RemoteFile]:
        """The files of a run; of several with one name the newest."""
        if not self._login.has_credentials():
            return self._public.files(run)
        with self._session() as session:
            return [described(item) for _, item in sorted(self._items(session, run).items())]

    def download(self, run: RunId, name: str, path: Path, progress: Progress | None = None) -> None:
        """Fetch a file in chunks, verified by size and MD5; without an account by size only."""
        if not self._login.has_credentials():
            self._public.download(run, name, path, progress)
            return
        with self._session() as session:

            def attempt() -> None:
                items = self._items(session, run)
                if name not in items:
                    raise StorageError(f"Google Drive: run {run} has no file {name}")
                uri = session.media_uri(items[name]["id"])
                download_content(session, uri, path, described(items[name]), self._backoff(), progress)

            self._backoff(_ATTEMPTS_FOR_A_WHOLE_FILE).retry(attempt, on=(Gone, Damaged))

    def upload(self, path: Path, run: RunId, name: str, progress: Progress | None = None) -> None:
        """Send a file in chunks; one that is there already keeps its id and gets the content.

        A new file has a hidden name until size and MD5 are verified, and so gets one whose content proves damaged.
        """
        with self._session(write=True) as session:
            self._backoff(_ATTEMPTS_FOR_A_WHOLE_FILE).retry(
                lambda: self._upload(session, path, run, name, progress), on=(Gone, Damaged)
            )

    def copy(self, run: RunId, source: str, target: str) -> bool:
        """Copy a file on Drive's side; False when the target exists, whose id a copy cannot keep."""
        with self._session(write=True) as session:
            items = self._items(session, run)
            if source not in items or target in items:
                return False
            parent = items[source]["parents"][0]["id"]
            session.copy(items[source]["id"], target, parent)
            copied = self._items(session, run).get(target, {})
            return bool(copied.get("md5Checksum") == items[source].get("md5Checksum", ""))

    def _upload(self, session: Session, path: Path, run: RunId, name: str, progress: Progress | None) -> None:
        folder = self._folder
        for title in run:
            folder = session.first_folder(title, folder) or session.make_folder(title, folder)
        hidden = f".{name}.part"
        present = session.named([folder], [name, hidden], IS_FILE)
        present.sort(key=lambda item: (item["title"] == name, modified(item)))
        target = present.pop() if present else None

        def make_request(media: MediaUpload) -> HttpRequest:
            if target is None:
                return session.insert(hidden, folder, media)
            return session.update(target["id"], media=media)

        with path.open("rb") as file:  # stays the same content when a newer checkpoint takes the name meanwhile
            md5, size = md5_of_stream(file), file.tell()
            stored = upload_content(session, make_request, file, self._backoff(), progress)
        try:
            verify(name, stored.get("md5Checksum"), md5, size, int(stored.get("fileSize", -1)))
        except Damaged:
            if stored["title"] != hidden:
                session.call(session.update(stored["id"], hidden))
            raise
        if stored["title"] != name:
            session.call(session.update(stored["id"], name))
        for duplicate in present:
            try:
                session.call(session.trash(duplicate["id"]))
            except StorageError as error:
                logger.warning("%s of run %s: a second file of that name stays on Google Drive: %s", name, run, error)

    def _items(self, session: Session, run: RunId) -> dict[str, Item]:
        folders = [self._folder]
        for title in run:
            folders = [item["id"] for item in session.named(folders, [title], IS_FOLDER)]
        items = session.children(folders, IS_FILE)
        whole = [item for item in items if is_safe_name(item["title"]) and "fileSize" in item]
        return {item["title"]: item for item in sorted(whole, key=modified)}

    @contextmanager
    def _session(self, write: bool = False) -> Iterator[Session]:
        """Log in when it is needed; a login for writing serves for reading as well. One thread at a time."""
        with self._lock:
            session = self._sessions.get(True) or self._sessions.get(write)
            is_new = session is None
            session = session or Session(self._login.authorize(write), self._endpoint, self._backoff)
            try:
                if is_new:
                    session.open()
                    self._sessions[write] = session
                yield session
            finally:
                session.http.close()  # its sockets; the next request opens new ones

    def _backoff(self, attempts: int | None = None) -> Backoff:
        return Backoff(attempts or self._attempts, self._first_wait)
