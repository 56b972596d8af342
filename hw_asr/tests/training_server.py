"""Processes that run train.py, forked from one that has imported torch, so that they start quickly.

As a program, it reads one JSON object per line, `{"argv", "cwd", "env", "output"}`, forks a process that runs train.py,
and answers with its id. It answers `{"wait": pid}` with the exit code, negative for a signal.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300
"""Seconds after which a process is killed; it takes a few, but the machine may be busy."""


@cache
def training_server() -> TrainingServer:
    """Return the server of this process."""
    server = TrainingServer()
    atexit.register(server.close)
    return server


class TrainingServer:
    """Starts train.py in processes of their own."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hw_asr.tests.training_server"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def close(self) -> None:
        """End the server."""
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
        """Start train.py with its output in a file; return the id of the process, which is also that of its group.

        `file_limit`, in bytes, is the largest size of files it can write, to simulate a full disk.
        """
        request = {
            "argv": arguments, "cwd": str(cwd), "output": str(output), "env": env or {}, "file_limit": file_limit
        }  # fmt: skip
        output.touch()
        return self._ask(request)

    def wait(self, process_id: int) -> int:
        """Wait for a process and return its exit code, negative for a signal; it is killed after `LIMIT` seconds."""
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
    """Run train.py with the given arguments in this process; does not return."""
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
    """Wait for a forked process; kill its group after `LIMIT` seconds."""
    deadline = time.monotonic() + LIMIT
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.002)


def _serve() -> None:
    import torch

    import hw_asr.commands.train
    import hw_asr.decoders.ctc_forward
    import hw_asr.decoders.prefix_search  # noqa: F401 -- both compile their kernels

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)  # imports torch's compiler
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
