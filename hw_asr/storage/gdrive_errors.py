"""What Google's client libraries raise, in our words: no request or reply is quoted, for they may hold secrets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hw_asr.runtime.web import whole_number
from hw_asr.storage.external import StorageError, StorageUnavailable

if TYPE_CHECKING:  # imported only for Google Drive, without annotations
    from httplib2 import Response

_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_TRANSIENT_REASONS = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded", "backendError"}
_ADVICE = {
    "storageQuotaExceeded": "the account's storage is full; empty its trash or export to another account",
    "quotaExceeded": "the account's storage is full; empty its trash or export to another account",
    "downloadQuotaExceeded": "Google limits downloads of this file at the moment; try again in some hours",
    "cannotDownloadAbusiveFile": "Google has flagged the file as abusive (malware or spam); its owner can download it",
    "dailyLimitExceeded": "the daily limit of requests is used up; try again tomorrow",
    "insufficientPermissions": "the login does not allow it; log in again for writing",
    "insufficientFilePermissions": "the account may not do this here; share the folder with it as Editor",
    "insufficientParentPermissions": "the account may not do this here; share the folder with it as Editor",
    "accessNotConfigured": "the Google Drive API is not enabled in the project of these credentials",
    "notFound": "not found; is the folder shared with this account?",
    "authError": "the login is not valid; log in again",
}


class Gone(StorageUnavailable):
    """What a request refers to does not exist: a file of an outdated listing, or an upload session that expired."""


class BadRequestError(StorageError):
    """Google made no sense of a request: of a piece of an upload, say, that it has already."""


class ExistsError(StorageError):
    """The id is already taken."""


class Unreachable(StorageUnavailable):
    """No connection to Google came about."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the client libraries and the network into StorageError or StorageUnavailable."""
    import httplib2
    from googleapiclient.errors import HttpError
    from oauth2client.client import HttpAccessTokenRefreshError

    try:
        yield
    except StorageError:
        raise
    except HttpError as error:
        raise reply_error(error.resp, error.content) from None
    except HttpAccessTokenRefreshError as error:
        raise _login_error(error.status, str(error)) from None
    except (httplib2.ServerNotFoundError, ConnectionRefusedError) as error:
        raise Unreachable(f"Google Drive: no connection ({type(error).__name__}); is there a network?") from None
    except (OSError, httplib2.HttpLib2Error, http.client.HTTPException) as error:
        raise StorageUnavailable(f"Google Drive: the connection broke ({type(error).__name__})") from None


def download_error(reply: Response, content: bytes) -> StorageError:
    """Return the error for a download that was refused: its quota is not that of the account's storage."""
    return _error(reply, "downloadQuotaExceeded" if _reason(content) == "quotaExceeded" else _reason(content))


def reply_error(reply: Response, content: bytes) -> StorageError:
    """Return the error for a reply that reports a failure."""
    return _error(reply, _reason(content))


def _error(reply: Response, reason: str | None) -> StorageError:
    message = f"Google Drive answered {reply.status}{f' {reason}' if reason else ''}"
    if reply.status in _TRANSIENT_STATUS or reason in _TRANSIENT_REASONS:
        return StorageUnavailable(message, _retry_after(reply))
    if reply.status in (404, 410):
        return Gone(f"{message}: {_ADVICE['notFound']}")
    kinds = {400: BadRequestError, 416: BadRequestError, 409: ExistsError}
    return kinds.get(reply.status, StorageError)(f"{message}: {_ADVICE[reason]}" if reason else message)


def _reason(content: bytes) -> str | None:
    """Return Google's name of an error, when it is one of those known here: replies may say anything."""
    try:
        reason = json.loads(content)["error"]["errors"][0]["reason"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    return reason if isinstance(reason, str) and (reason in _ADVICE or reason in _TRANSIENT_REASONS) else None


def _retry_after(reply: Response) -> float:
    return float(whole_number(reply.get("retry-after", "")) or 0)


def _login_error(status: int | None, reason: str) -> StorageError:
    if status is None or status in _TRANSIENT_STATUS:
        return StorageUnavailable(f"Google's login service answered {status}")
    if "invalid_grant" in reason:
        return StorageError(
            "Google refuses the login (invalid_grant): it was revoked, has expired, or the key was deleted; for a "
            "personal account delete the stored token and log in again, for a service account make a new key"
        )
    return StorageError(f"Google refuses the login ({status}); are these the credentials of an existing client?")
