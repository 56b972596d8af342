"""Logging in to Google: a service account's key, or a person's consent with the token kept for later.

The scope asked for is drive.readonly, and for uploads drive: the narrower drive.file cannot see a folder that was made
in the browser.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.runtime.atomic_files import OWNER_ONLY, write_and_rename
from hw_asr.runtime.optional import optional_import
from hw_asr.storage.external import StorageError
from hw_asr.storage.gdrive_errors import translated
from hw_asr.storage.secrets import is_available, read_json

if TYPE_CHECKING:  # imported only for Google Drive, without annotations
    from oauth2client.client import Credentials, Storage
    from pydrive2.auth import GoogleAuth

READ_SCOPE = "https://www.googleapis.com/auth/drive.readonly"
WRITE_SCOPE = "https://www.googleapis.com/auth/drive"
_REDIRECT = "http://localhost:8090/"
logger = logging.getLogger(__name__)
_HELP = "docs/gdrive_storage.md says how to get one"


class Login:
    """Finds credentials and turns them into authorised connections; `repr` and errors never show their content."""

    def __init__(self, client_secrets: Path | None, service_account_key: str | None, timeout: float) -> None:
        self._client_secrets = client_secrets
        self._service_account_key = service_account_key
        self._timeout = timeout
        self.uses_service_account = False

    def has_credentials(self) -> bool:
        """Whether there is a service account's key or a client secrets file to log in with."""
        key, client = self._service_account_key, self._client_secrets
        return (key is not None and is_available(key)) or (client is not None and client.expanduser().is_file())

    def authorize(self, write: bool) -> GoogleAuth:
        """Return a pydrive2 GoogleAuth with credentials for reading, or for writing as well.

        A service account is preferred for reading, which it can do without a person; a personal account for writing,
        because service accounts have no storage of their own.
        """
        key, client = self._service_account_key, self._client_secrets
        scope = WRITE_SCOPE if write else READ_SCOPE
        key_is_there = key is not None and is_available(key)
        client_is_there = client is not None and client.expanduser().is_file()
        self.uses_service_account = key_is_there and not (write and client_is_there)
        if self.uses_service_account:
            return self._service_account(str(key), scope)
        if client_is_there:
            return self._personal_account(Path(str(client)).expanduser(), scope)
        given = " or ".join(str(reference) for reference in (key, client) if reference is not None)
        raise StorageError(
            (f"Google Drive: no credentials at {given}" if given else "Google Drive: no credentials are configured")
            + f"; {_HELP}; to train without exports, set trainer.external_storage to null"
        )

    def _service_account(self, reference: str, scope: str) -> GoogleAuth:
        key = read_json(reference, "service account key")
        if key.get("type") != "service_account":
            raise StorageError(
                "not a service account key (its type is not service_account); client secrets belong in "
                "client_credentials_filepath"
            )
        settings = {
            "client_config_backend": "service",
            "service_config": {"client_json_dict": key, "client_user_email": ""},
            "oauth_scope": [scope],
        }
        auth = _google_auth(settings, self._timeout)
        try:
            auth.ServiceAuth()
        except Exception as error:  # whatever the key parser meets; its text may quote the key
            raise StorageError(f"service account key: cannot be used ({type(error).__name__}); {_HELP}") from None
        return auth

    def _personal_account(self, path: Path, scope: str) -> GoogleAuth:
        secrets = read_json(str(path), "client credentials")
        client = secrets.get("installed") or secrets.get("web")
        if not isinstance(client, dict) or not {"client_id", "client_secret"} <= set(client):
            raise StorageError(
                "client credentials: expected the client secrets file of an OAuth client of type Desktop app; a "
                f"service account's key belongs in service_account_key_filepath; {_HELP}"
            )
        settings = {
            "client_config_backend": "settings",
            "client_config": {
                "client_id": client["client_id"],
                "client_secret": client["client_secret"],
                "auth_uri": client.get("auth_uri", "https://accounts.google.com/o/oauth2/auth"),
                "token_uri": client.get("token_uri", "https://oauth2.googleapis.com/token"),
                "revoke_uri": client.get("revoke_uri", "https://oauth2.googleapis.com/revoke"),
                "redirect_uri": _REDIRECT,
            },
            "oauth_scope": [scope],
            "get_refresh_token": True,
        }
        auth = _google_auth(settings, self._timeout)
        store = _token_store(token_path(path))
        auth.credentials = store.get()
        if auth.credentials is None or not auth.credentials.scopes & {scope, WRITE_SCOPE}:
            auth.credentials = self._ask(auth, token_path(path), scope)
            store.put(auth.credentials)
        auth.credentials.set_store(store)
        return auth

    def _ask(self, auth: GoogleAuth, path: Path, scope: str) -> Credentials:
        """Let a person consent in any browser, on this machine or another; returns oauth2client credentials."""
        access = "read and write" if scope == WRITE_SCOPE else "read"
        if not (sys.stdin is not None and sys.stdin.isatty()):
            raise StorageError(
                f"Google Drive: no stored login to {access} at {path}, and no terminal to ask on; run `python "
                "scripts/model_loader/model_loader.py login` once where there is one, and copy that file"
            )
        auth.GetFlow()
        print(
            f"\nTo {access} files on Google Drive, open this address in any browser and consent:\n\n"
            f"    {auth.GetAuthUrl()}\n\n"
            "The browser then goes to an address on localhost that may show an error; that is all right.\n"
            "Copy that whole address, or the code in it, and paste it here.",
            file=sys.stderr,
        )
        print("Address or code: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(answer).query)
        if "error" in query or not answer:
            raise StorageError("Google Drive: no consent was given")
        import httplib2
        from oauth2client.client import FlowExchangeError

        with translated(), contextlib.closing(httplib2.Http(timeout=self._timeout)) as http:
            try:
                return auth.flow.step2_exchange(query.get("code", [answer])[0], http)
            except FlowExchangeError:
                raise StorageError("Google Drive: the code is not valid (any more); try again") from None


def _google_auth(settings: Mapping[str, object], timeout: float) -> GoogleAuth:
    """Return a client that is not yet logged in; raises MissingPackageError when PyDrive2 is not installed."""
    with optional_import("Google Drive", "PyDrive2", "gdrive"):
        from pydrive2.auth import GoogleAuth
    return GoogleAuth(settings=settings, http_timeout=timeout)


def token_path(client_secrets: Path) -> Path:
    """Where the login made with these client secrets is kept: beside them."""
    return client_secrets.with_name(f"{client_secrets.stem}.token.json")


def _token_store(path: Path) -> Storage:
    """Return an oauth2client Storage over `path`, mode 600, which survives a place that cannot be written."""
    from oauth2client.client import Credentials, Storage

    class TokenStore(Storage):  # type: ignore[misc]
        """Refreshed tokens are put here by oauth2client."""

        def locked_get(self) -> Credentials | None:
            """Return the stored credentials, None when there are none."""
            try:
                return Credentials.new_from_json(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                return None
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise StorageError(f"{path}: not a stored login ({type(error).__name__}); delete it") from None

        def locked_put(self, credentials: Credentials) -> None:
            """Store credentials; where the place is read-only they last as long as the process."""
            try:
                with write_and_rename(path, "w", OWNER_ONLY) as file:
                    file.write(credentials.to_json())
            except OSError as error:
                logger.info("%s: the refreshed login is not kept (%s)", path, type(error).__name__)

    return TokenStore()
