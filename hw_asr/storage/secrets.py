"""Secrets come from files, the environment or an address; never from a config, never into a message."""

from __future__ import annotations

import json
import os
import re
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hw_asr.runtime.web import RedirectError, open_url
from hw_asr.storage.external import StorageError, StorageUnavailable

_TIMEOUT_SECONDS = 30.0
_SECRET_KEY = re.compile(
    r"key|secret|token|pass|cred|sas|connection_string|authorization|cookie|bearer|signature", re.IGNORECASE
)
_SECRET_VALUES = {
    "a password in an address": re.compile(r"://[^/?#\s@]*:[^/?#\s@]+@|https?://[^/?#\s@]+@", re.IGNORECASE),
    "a secret in the query of an address": re.compile(
        r"[?&;](?:[\w-]*(?:sig|signature|token|secret|password|passwd|api_?key|access_?key|credential))=[^&\s]+",
        re.IGNORECASE,
    ),
    "an authorization header": re.compile(r"(?:^|[:=\s])(?:Bearer|Basic)\s+[\w+/=.~-]{6,}", re.IGNORECASE),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bhf_\w{20,}|\bya29\.[\w-]{10,}"),
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def from_environment(value: object) -> object:
    """Replace "$NAME", also inside objects, by the environment variable; StorageError when it is not set."""
    if isinstance(value, Mapping):
        return {key: from_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_environment(item) for item in value]
    return _expanded(value) if isinstance(value, str) else value


def _expanded(value: str) -> str:
    if not value.startswith("$"):
        return value
    if value[1:] not in os.environ:
        raise StorageError(f"environment variable {value[1:]} is not set; the external storage's settings refer to it")
    return os.environ[value[1:]]


def forbid_secrets(options: Mapping[str, object], path: str) -> None:
    """Raise ValueError when a value looks like a secret, by its key or by itself; configs are copied into every run."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            forbid_secrets(value, f"{path}.{key}")
            continue
        named = [text for text in _strings(value) if _SECRET_KEY.search(str(key)) and not text.startswith("$")]
        if named or secrets_in(value, f"{path}.{key}"):
            raise ValueError(
                f"{path}.{key}: looks like a secret, and would be copied into every run; put it into an environment "
                'variable and write "$NAME"'
            )


def secrets_in(value: object, path: str = "") -> list[str]:
    """List the places of a JSON value, as `path: what`, that hold a secret in themselves; none of it is quoted.

    Found are passwords and signatures in addresses, authorization headers, private keys and access keys.
    """
    if isinstance(value, Mapping):
        return [fault for key, item in value.items() for fault in secrets_in(item, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [fault for index, item in enumerate(value) for fault in secrets_in(item, f"{path}[{index}]")]
    if not isinstance(value, str):
        return []
    return [f"{path}: contains {what}" for what, pattern in _SECRET_VALUES.items() if pattern.search(value)][:1]


def _strings(value: object) -> Iterator[str]:
    """Yield the strings of a value and of lists and mappings in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)


def is_available(reference: str) -> bool:
    """Whether a reference names something that is there; an address always does."""
    if reference.startswith("$"):
        return bool(os.environ.get(reference[1:]))
    return is_url(reference) or Path(reference).expanduser().is_file()


def is_url(reference: str) -> bool:
    """Whether a reference is a web address."""
    return reference.startswith(("https://", "http://"))


def require_encrypted(url: str, what: str) -> None:
    """Raise ValueError for an address that would send secrets in the clear, other than to this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{what}: expected an https:// address")


def read_json(reference: str, what: str) -> dict[str, object]:
    """Read a JSON object from a path, an address, or "$NAME": a variable with the JSON itself or one of the former.

    Raises StorageError that calls it `what`, and quotes neither the content nor more of an address than its host.
    """
    place = f"environment variable {reference[1:]}" if reference.startswith("$") else f"{reference!r}"
    text = _expanded(reference).strip()
    if not text.startswith("{"):
        if is_url(text):
            place = urlsplit(text).hostname or "an address"
            text = _fetch(text, what, place)
        else:
            try:
                text = Path(text).expanduser().read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise StorageError(f"{what}: cannot read {place}: {type(error).__name__}") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise StorageError(f"{what}: {place} does not hold a JSON object; download the file again from the console")
    return value


def _fetch(url: str, what: str, host: str) -> str:
    try:
        require_encrypted(url, what)
        with open_url(url, _TIMEOUT_SECONDS) as reply:
            content: bytes = reply.read(1 << 20)
    except RedirectError as error:
        raise StorageError(f"{what}: {host}: {error.reason}") from None
    except urllib.error.HTTPError as error:
        error.close()
        raise StorageError(f"{what}: {host} answered {error.code}") from None
    except OSError as error:
        raise StorageUnavailable(f"{what}: cannot reach {host}: {type(error).__name__}") from None
    except ValueError as error:
        raise StorageError(str(error)) from None
    return content.decode("utf-8", "replace")
