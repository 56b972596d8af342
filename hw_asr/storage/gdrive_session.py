"""A connection to the Drive interface (version 2, as PyDrive2 uses it): authorised, repeated, paged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import RemoteFile, StorageUnavailable
from hw_asr.storage.gdrive_errors import ExistsError, Unreachable, translated

if TYPE_CHECKING:  # they are imported only for Google Drive, and have no annotations
    from googleapiclient.http import HttpRequest, MediaUpload
    from pydrive2.auth import GoogleAuth

ENDPOINT = "https://www.googleapis.com/"
FOLDER = "application/vnd.google-apps.folder"
IS_FOLDER = f"mimeType = '{FOLDER}'"
IS_FILE = f"mimeType != '{FOLDER}'"
_ITEM_FIELDS = "id,title,mimeType,fileSize,md5Checksum,createdDate,modifiedDate,parents(id)"
_MAX_PARENTS = 40  # in one query, whose length is limited


class Parent(TypedDict):
    """A folder that holds an item."""

    id: str


class Item(TypedDict, total=False):
    """Drive's description of a file or folder, with the keys of `_ITEM_FIELDS`; folders have no size and no MD5."""

    id: str
    title: str
    mimeType: str
    fileSize: str
    md5Checksum: str
    createdDate: str
    modifiedDate: str
    parents: list[Parent]


def described(item: Item) -> RemoteFile:
    """Return what Drive says of a file."""
    return RemoteFile(item["title"], int(item["fileSize"]), item.get("md5Checksum"), modified(item))


def modified(item: Item) -> float:
    """Return when an item was changed, in seconds since 1970."""
    return datetime.fromisoformat(item["modifiedDate"].replace("Z", "+00:00")).timestamp()


class Session:
    """Sends requests as one login; `make_backoff` gives the patience for each of them."""

    def __init__(self, auth: GoogleAuth, endpoint: str, make_backoff: Callable[[], Backoff]) -> None:
        from googleapiclient.discovery import build_from_document
        from googleapiclient.discovery_cache import get_static_doc

        document = json.loads(get_static_doc("drive", "v2"))
        document |= {"rootUrl": endpoint, "baseUrl": endpoint + document["servicePath"]}
        self._auth, self._make_backoff = auth, make_backoff
        self.http = auth.Get_Http_Object()
        service = build_from_document(document, http=self.http)
        self.files, self.about = service.files(), service.about()

    def open(self) -> None:
        """Get an access token; without any network this fails at once, where requests are repeated."""

        def refresh() -> None:
            with translated():
                self._auth.credentials.refresh(self.http)

        try:
            refresh()
        except Unreachable:
            raise
        except StorageUnavailable:
            self._make_backoff().retry(refresh)

    def reconnect(self) -> None:
        """Replace `http`, an authorised httplib2.Http, which may be in any state after an error."""
        self.http.close()
        self.http = self._auth.Get_Http_Object()

    def call(self, request: HttpRequest) -> Any:
        """Execute a request that may be repeated without harm; raises StorageError."""

        def once() -> Any:
            try:
                with translated():
                    return request.execute(http=self.http)
            except StorageUnavailable:
                self.reconnect()
                raise

        return self._make_backoff().retry(once)

    def children(self, parents: list[str], condition: str) -> Iterator[Item]:
        """What lies in folders, by id, and meets a condition of Drive's query language."""
        for start in range(0, len(parents), _MAX_PARENTS):
            within = " or ".join(f"{quote(parent)} in parents" for parent in parents[start : start + _MAX_PARENTS])
            page_token = None
            while True:
                request = self.files.list(
                    q=f"({within}) and trashed = false and {condition}",
                    maxResults=1000,
                    pageToken=page_token,
                    fields=f"nextPageToken,items({_ITEM_FIELDS})",
                    supportsAllDrives=True,
                    includeItemsFromAllDrives=True,
                )
                page = self.call(request)
                yield from page.get("items", [])
                page_token = page.get("nextPageToken")
                if not page_token:
                    break

    def named(self, parents: list[str], titles: Sequence[str], condition: str) -> list[Item]:
        """What lies in folders, has one of these titles and meets a condition; Drive's own `=` may ignore case."""
        titled = " or ".join(f"title = {quote(title)}" for title in titles)
        return [item for item in self.children(parents, f"({titled}) and {condition}") if item["title"] in titles]

    def account(self) -> Any:
        """Who is logged in, and the account's quota."""
        fields = "user(emailAddress),quotaType,quotaBytesTotal,quotaBytesUsedAggregate"
        return self.call(self.about.get(fields=fields))

    def folder(self, folder_id: str) -> Any:
        """What a folder is, and whether this login may add to it."""
        fields = "id,mimeType,driveId,labels(trashed),capabilities(canAddChildren)"
        return self.call(self.files.get(fileId=folder_id, fields=fields, supportsAllDrives=True))

    def first_folder(self, title: str, parent: str) -> str | None:
        """Return the id of the folder of this name, the oldest where there are several; None where there is none."""
        found = self.named([parent], [title], IS_FOLDER)
        return min(((item["createdDate"], item["id"]) for item in found), default=("", None))[1]

    def media_uri(self, file_id: str) -> str:
        """Where the content of a file is fetched."""
        uri: str = self.files.get_media(fileId=file_id, supportsAllDrives=True).uri
        return uri

    def make_folder(self, title: str, parent: str) -> str:
        """Return the id of a new folder, of which there is one even when the request is sent again."""
        folder_id = self._new_id()
        body = {"id": folder_id, "title": title, "mimeType": FOLDER, "parents": [{"id": parent}]}
        with contextlib.suppress(ExistsError):
            self.call(self.files.insert(body=body, fields=_ITEM_FIELDS, supportsAllDrives=True))
        return folder_id

    def insert(self, title: str, parent: str, media: MediaUpload) -> HttpRequest:
        """Return a request that makes a file."""
        body = {"title": title, "mimeType": "application/octet-stream", "parents": [{"id": parent}]}
        return self.files.insert(body=body, media_body=media, fields=_ITEM_FIELDS, supportsAllDrives=True)

    def update(self, file_id: str, title: str | None = None, media: MediaUpload | None = None) -> HttpRequest:
        """Return a request that gives a file another title or content; it keeps its id."""
        body = {} if title is None else {"title": title}
        return self.files.update(
            fileId=file_id, body=body, media_body=media, fields=_ITEM_FIELDS, supportsAllDrives=True
        )

    def copy(self, file_id: str, title: str, parent: str) -> None:
        """Copy a file on Drive's side; there is one copy even when the request is sent again."""
        body = {"id": self._new_id(), "title": title, "parents": [{"id": parent}]}
        with contextlib.suppress(ExistsError):
            self.call(self.files.copy(fileId=file_id, body=body, fields=_ITEM_FIELDS, supportsAllDrives=True))

    def _new_id(self) -> str:
        file_id: str = self.call(self.files.generateIds(maxResults=1, space="drive"))["ids"][0]
        return file_id

    def trash(self, file_id: str) -> HttpRequest:
        """Return a request that moves a file to the trash."""
        return self.files.trash(fileId=file_id, supportsAllDrives=True)


def quote(text: str) -> str:
    """Return a string literal of Drive's query language."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
