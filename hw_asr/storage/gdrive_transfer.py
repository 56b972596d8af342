"""Moving the bytes of one file to and from Google Drive: in chunks, resumed where they broke, verified by MD5.

The client libraries know the protocol of resumable uploads and of ranges; they do not retry, time out or verify.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.storage.backoff import Backoff
from hw_asr.storage.external import Progress, RemoteFile, StorageUnavailable, verify
from hw_asr.storage.gdrive_errors import BadRequestError, Gone, download_error, translated
from hw_asr.storage.gdrive_session import Item, Session

if TYPE_CHECKING:  # imported only for Google Drive, without annotations
    from googleapiclient.http import HttpRequest, MediaUpload

CHUNK_BYTES = 8 << 20
"""A multiple of 256 KiB, as Drive demands. Memory of a transfer is a few times this."""


def download_content(
    session: Session, uri: str, path: Path, stored: RemoteFile, backoff: Backoff, progress: Progress | None
) -> None:
    """Fetch the file `stored` from `uri` to `path`.

    Only the chunk that broke is asked for again. Raises Gone when there is no such file, Damaged when another content
    arrived; `path` is untouched then.
    """
    with write_and_rename(path) as file:
        md5 = _fetch(session, uri, file, stored.size, backoff, progress)
        verify(stored.name, stored.md5, md5, stored.size, file.tell())


def _fetch(session: Session, uri: str, file: IO[bytes], size: int, backoff: Backoff, progress: Progress | None) -> str:
    digest, done, furthest = hashlib.md5(usedforsecurity=False), 0, 0
    while done < size:
        try:
            with translated():
                end = min(done + CHUNK_BYTES, size) - 1
                reply, content = session.http.request(uri, headers={"Range": f"bytes={done}-{end}"})
                if reply.status not in (200, 206):
                    raise download_error(reply, content)
                if not content:
                    raise StorageUnavailable("Google Drive sent an empty reply")
        except Gone:
            raise
        except StorageUnavailable as error:
            backoff.failed(error)
            session.reconnect()
            continue
        if reply.status == 200 and done:  # the range was ignored: these are the first bytes again
            file.seek(0)
            file.truncate()
            digest, done = hashlib.md5(usedforsecurity=False), 0
        file.write(content)
        digest.update(content)
        done += len(content)
        if done > furthest:
            furthest = done
            backoff.progressed()
        else:  # a server that ignores ranges again and again must not hold the transfer forever
            backoff.failed(StorageUnavailable("Google Drive sends the beginning of the file again"))
        if progress is not None:
            progress(done, size)
    return digest.hexdigest()


def upload_content(
    session: Session,
    make_request: Callable[[MediaUpload], HttpRequest],
    file: IO[bytes],
    backoff: Backoff,
    progress: Progress | None,
) -> Item:
    """Send what `file` holds; `make_request` maps a media body to an insert or update request.

    Always in a resumable session, however small: a single request whose reply is lost may make the file twice. Returns
    Drive's description of the stored file. Raises Gone when the session has expired and a new one has to be made.
    """
    media = _chunks(file)
    with translated():
        request = make_request(media)
    done = 0
    while True:
        try:
            with translated():
                _, stored = request.next_chunk(http=session.http)
                if stored is None and request.resumable_progress <= done:
                    raise StorageUnavailable("Google Drive took nothing of a chunk")
        except Gone:
            raise
        except BadRequestError as error:
            if request.resumable_uri is None:
                raise
            # The HTTP library sends a chunk again when its answer was lost; next_chunk() now asks what has arrived.
            backoff.failed(StorageUnavailable(str(error)))
            continue
        except StorageUnavailable as error:
            backoff.failed(error)
            session.reconnect()
            continue
        done = media.size() if stored is not None else request.resumable_progress
        backoff.progressed()
        if progress is not None:
            progress(done, media.size())
        if stored is not None:
            description: Item = stored
            return description


def _chunks(file: IO[bytes]) -> MediaUpload:
    from googleapiclient.http import MediaIoBaseUpload

    class Chunks(MediaIoBaseUpload):  # type: ignore[misc]
        """Gives each chunk as bytes: a stream could not be sent a second time after a token expired."""

        def has_stream(self) -> bool:
            return False

    return Chunks(file, "application/octet-stream", chunksize=CHUNK_BYTES, resumable=True)
