"""Whether an online W&B run can be started. wandb itself would prompt for a key, or wait for minutes."""

from __future__ import annotations

import netrc
import os
import threading
import urllib.error
from pathlib import Path
from urllib.parse import urlsplit

from hw_asr.runtime.web import open_url


def key_is_known(base_url: str, configured_key: str | None = None) -> bool:
    """Whether wandb has credentials for the server: in its settings, the environment or ~/.netrc."""
    if configured_key or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    configured_path = os.environ.get("NETRC")
    candidates = [Path(configured_path)] if configured_path else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return any(_has_password(path, urlsplit(base_url).netloc) for path in candidates)


def is_reachable(base_url: str, timeout: float = 10.0) -> bool:
    """Whether the server sends any HTTP response within `timeout` seconds; proxies of the environment are used."""
    answered = threading.Event()

    def ask() -> None:
        try:
            open_url(base_url.rstrip("/") + "/healthz", timeout).close()
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            return
        else:
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)  # a DNS lookup has no timeout
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def _has_password(path: Path, host: str) -> bool:
    try:
        login = netrc.netrc(str(path.expanduser())).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return False
    return login is not None and bool(login[2])
