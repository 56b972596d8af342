"""A headless Chromium for tests of pages, driven over WebDriver (W3C) with the standard library alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hw_asr.tests.waiting import DEADLINE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


class Browser:
    """One window; use it in a `with` block."""

    def __init__(self, width: int = 1250, height: int = 1000) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            [str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._driver.stdout is not None
        port = next(
            match[1] for line in self._driver.stdout if (match := re.search(r"successfully on port (\d+)", line))
        )
        self._url = f"http://127.0.0.1:{port}/session"
        flags = [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self._profile.name}"]
        options = {"args": flags, "binary": CHROMIUM, "perfLoggingPrefs": {"enableNetwork": True}}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"}}
        session = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self._url += "/" + session["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._ask("DELETE", "")
        self._driver.terminate()
        self._driver.wait(DEADLINE)
        assert self._driver.stdout is not None
        self._driver.stdout.close()
        self._profile.cleanup()

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self._ask("POST", "/url", {"url": path.absolute().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; `return` gives its result."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str) -> Any:
        """Run JavaScript that calls `done(result)`."""
        script = f"const done = arguments[arguments.length - 1]; {script}"
        return self._ask("POST", "/execute/async", {"script": script, "args": []})

    def screenshot(self) -> bytes:
        """Return a PNG of what is visible."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def prefer(self, scheme: str) -> None:
        """Make pages that are opened afterwards see a system that prefers `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", features=features)

    def print_pdf(self) -> bytes:
        """Print the page."""
        return base64.b64decode(self._ask("POST", "/print", {"background": True}))

    def requests(self) -> list[str]:
        """Return the addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Return what the console said since the last call: script errors, blocked content."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._ask("POST", "/se/log", {"type": kind})
        return entries

    def _devtools(self, command: str, **parameters: Any) -> None:
        self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None
