"""Requests to the web that go only where they should: https, or http where http was asked for; never ftp or files."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from http.client import HTTPMessage, HTTPResponse, InvalidURL
from typing import IO
from urllib.parse import urlsplit, urlunsplit

INVALID = "not a valid address"
"""Stands in messages for an address that cannot be parsed."""

_EXPECTED = f"{INVALID}; expected one without blanks, user and password"


class RedirectError(urllib.error.URLError):
    """An address that is not valid, or to which a server may not redirect."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https; to http only on the host that was asked by http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request to follow with; raises RedirectError."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        is_same_http = new.scheme == old.scheme == "http" and new.hostname == old.hostname
        _check_no_user(newurl)
        if new.scheme != "https" and not is_same_http:
            raise RedirectError(f"redirected to {redacted(newurl)}, which is not followed; expected an https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(url: str | urllib.request.Request, timeout: float) -> HTTPResponse:
    """Open an http or https address; proxies of the environment are used.

    Raises urllib.error.URLError, of which RedirectError is one.
    """
    _check_no_user(url if isinstance(url, str) else url.full_url)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
        _SafeRedirects,
    ):  # fmt: skip
        opener.add_handler(handler())
    try:
        response: HTTPResponse = opener.open(url, timeout=timeout)
    except (ValueError, InvalidURL) as error:  # of the address, or of one that the server redirects to
        raise RedirectError(_EXPECTED) from error
    return response


def _check_no_user(url: str) -> None:
    """Raise RedirectError for an address with a user or a password: http.client takes them for a part of the host."""
    try:
        has_user = "@" in urlsplit(url).netloc
    except ValueError:
        has_user = True
    if has_user:
        raise RedirectError(_EXPECTED)


def whole_number(text: str) -> int | None:
    """Return the number that a header states, None for anything but 1 to 18 digits."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def redacted(url: str) -> str:
    """Return an address for messages: without user, password, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        query = "..." if parts.query else ""
        return urlunsplit((parts.scheme, f"{host or ''}{port}", parts.path, query, ""))
    except ValueError:
        return INVALID
