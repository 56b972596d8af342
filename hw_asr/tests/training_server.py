"""Processes that run train.py, forked from one that has imported everything, so that each starts in a moment.

As a program, it reads one JSON object a line, `{"argv", "cwd", "env", "output"}`, forks, runs train.py as it
would run by itself, and answers with the process id; `{"wait": pid}` answers with the exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300
"""Seconds that a train.py of a test may take; each takes a few."""


class TrainingServer:
    """Starts train.py in processes of their own; a context manager."""

    def __enter__(self) -> TrainingServer:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hw_asr.tests.training_server"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(
        self,
        arguments: list[str],
        cwd: Path,
        output: Path,
        env: dict[str, str] | None = None,
        file_limit: int | None = None,
    ) -> int:
        """Start train.py with `arguments`, its output going to a file; return the id of the process and its group.

        With `file_limit`, in bytes, no file can grow beyond it, as on a disk that is full.
        """
        request = {
            "argv": arguments, "cwd": str(cwd), "output": str(output), "env": env or {}, "file_limit": file_limit
        }  # fmt: skip
        output.touch()
        return self._ask(request)

    def wait(self, process_id: int) -> int:
        """Return the exit code, negative for a signal, when the process has ended, which it must in `LIMIT` seconds."""
        return self._ask({"wait": process_id})

    def run(self, arguments: list[str], cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Run train.py to its end; return exit code and output."""
        output = cwd / "output.txt"
        code = self.wait(self.start(arguments, cwd, output, env))
        return code, output.read_text(encoding="utf-8")

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _train(request: dict[str, Any]) -> None:
    """Become a train.py with the given arguments; never returns."""
    os.setsid()
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    sys.path.insert(0, request["cwd"])
    sys.argv = ["train.py", *request["argv"]]
    import train
    from hw_asr.runtime.entry_point import run_command

    code = 70
    try:
        run_command(train.main)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def _exit_code(process: int) -> int:
    """Wait for a process that was forked here; one that takes too long is killed with its group."""
    deadline = time.monotonic() + LIMIT
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.002)


def _serve() -> None:
    import hw_asr.commands.train  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = _exit_code(request["wait"])
        else:
            answer = os.fork()
            if answer == 0:
                _train(request)
        print(answer, flush=True)


if __name__ == "__main__":
    _serve()
