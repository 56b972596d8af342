"""A connection to the Drive interface (version 2, as PyDrive2 uses it): authorised, repeated, paged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import StorageUnavailable
from hw_asr.storage.gdrive_errors import Unreachable, translated

ENDPOINT = "https://www.googleapis.com/"
FOLDER = "application/vnd.google-apps.folder"
_ITEM_FIELDS = "id,title,mimeType,fileSize,md5Checksum,createdDate,modifiedDate,parents(id)"
_MAX_PARENTS = 40  # in one query, whose length is limited


class Session:
    """Sends requests as one login; `make_backoff` gives the patience for each of them."""

    def __init__(self, auth: Any, endpoint: str, make_backoff: Callable[[], Backoff]) -> None:
        from googleapiclient.discovery import build_from_document
        from googleapiclient.discovery_cache import get_static_doc

        document = json.loads(get_static_doc("drive", "v2"))
        document |= {"rootUrl": endpoint, "baseUrl": endpoint + document["servicePath"]}
        self._auth, self._make_backoff = auth, make_backoff
        self._http = self.connect()
        self.files = build_from_document(document, http=self._http).files()
        self.about = build_from_document(document, http=self._http).about()

    def open(self) -> None:
        """Get an access token; without any network this fails at once, where requests are repeated."""

        def refresh() -> None:
            with translated():
                self._auth.credentials.refresh(self.connect())

        try:
            refresh()
        except Unreachable:
            raise
        except StorageUnavailable:
            self._make_backoff().retry(refresh)

    def connect(self) -> Any:
        """Return a new authorised httplib2.Http."""
        return self._auth.Get_Http_Object()

    def once(self, request: Any) -> Any:
        """Execute a request; raises StorageError."""
        try:
            with translated():
                return request.execute(http=self._http)
        except StorageUnavailable:
            self._http = self.connect()
            raise

    def call(self, request: Any) -> Any:
        """Execute a request that may be repeated without harm."""
        return self._make_backoff().retry(lambda: self.once(request))

    def children(self, parents: list[str], condition: str, patient: bool = True) -> Iterator[dict[str, Any]]:
        """What lies in folders, by id, and meets a condition of Drive's query language; only `patient` repeats."""
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
                page = self.call(request) if patient else self.once(request)
                yield from page.get("items", [])
                page_token = page.get("nextPageToken")
                if not page_token:
                    break

    def insert(self, title: str, parent: str, mime_type: str, media: Any = None) -> Any:
        """Return a request that makes a file or folder."""
        body = {"title": title, "mimeType": mime_type, "parents": [{"id": parent}]}
        return self.files.insert(body=body, media_body=media, fields=_ITEM_FIELDS, supportsAllDrives=True)

    def update(self, file_id: str, title: str | None = None, media: Any = None) -> Any:
        """Return a request that gives a file another title or content; it keeps its id."""
        body = {} if title is None else {"title": title}
        return self.files.update(
            fileId=file_id, body=body, media_body=media, fields=_ITEM_FIELDS, supportsAllDrives=True
        )

    def trash(self, file_id: str) -> Any:
        """Return a request that moves a file to the trash."""
        return self.files.trash(fileId=file_id, supportsAllDrives=True)


def quote(text: str) -> str:
    """Return a string literal of Drive's query language."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
