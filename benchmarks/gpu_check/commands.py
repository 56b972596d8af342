"""The commands on the demo's recordings: precisions, kill and resume, signals, another device, long audio, tuning."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.gpu_check.report import Options, Report, Row, expect
from hw_asr.cli.main import run as run_hw_asr
from hw_asr.config import read_json
from hw_asr.runtime.devices import DeviceError, check_precision
from hw_asr.runtime.entry_point import run_command

DEMO = Path("hw_asr/configs/demo.json")
PR_SET_PDEATHSIG = 1
"""Of Linux' prctl: the signal to get when the parent ends."""
LIMITS = {"cuda": 120, "cpu": 1200}
"""Seconds that a command may take, by device."""


def run(options: Options, report: Report) -> None:
    """Run every command as a user would, each in a process forked from this one."""
    commands = _Commands(options, report)
    device = "0" if options.on_gpu else "cpu"
    steps = 2 if options.quick else 10
    for precision in ("fp32",) if options.quick else ("fp32", "fp16", "bf16"):
        if precision == "bf16" and options.on_gpu and not _has_bf16(options):
            continue
        precise = (f"trainer.precision={precision}", f"trainer.wandb_run={precision}")
        commands.train(f"train, {precision}, {steps} steps with EMA", device, f"trainer.len_epoch={steps}", *precise)
    commands.killed_and_resumed(device)
    last = str(options.folder / "saved/models/check/fp32/last.pth")
    for epochs, where in ((2, "cpu"), (3, device)) if options.on_gpu else ((2, "cpu"),):
        length = f"trainer.len_epoch={steps}"
        arguments = ["-r", last, "-d", where, "--set", f"trainer.epochs={epochs}", "--set", length]
        commands.expect_code(f"the same run, continued on {where}", 0, "train", arguments)
    best = str(options.folder / "saved/models/check/fp32/model_best.pth")
    long_file = commands.long_file(70 if options.quick else 300)
    output = str(options.folder / "output.json")
    arguments = ["-r", best, "-t", str(long_file), "-d", device, "-o", output]
    commands.expect_code(f"test, a file of {70 if options.quick else 300} s", 0, "test", arguments)
    if not options.quick:
        arpa, overlay = str(options.folder / "lm.arpa"), str(options.folder / "overlay.json")
        build = ["--config", str(options.folder / "config.json"), "--order", "2", "--discount-fallback", "-o", arpa]
        commands.expect_code("lm-build", 0, "lm-build", build)
        tune = ["-r", best, "--split", "dev", "--lm", arpa, "-o", overlay, "-d", device]
        commands.expect_code("lm-tune", 0, "lm-tune", tune)


class _Commands:
    def __init__(self, options: Options, report: Report) -> None:
        self._options, self._report = options, report
        self._limit = LIMITS[options.device.type]
        self._config = options.folder / "config.json"
        config = read_json(DEMO)
        limits = {"train": 16 if options.quick else 64, "dev": 4 if options.quick else 16}
        for split, limit in limits.items():
            config["data"][split]["datasets"][0]["args"]["data"] = str(_first_lines(options.folder, split, limit))
        config["data"]["train"]["batch_sampler"]["args"]["batch_size"] = 4
        config["name"] = "check"
        config["decoders"] = [{"type": "argmax"}]  # beam searches are slow on the output of an untrained network
        if options.quick:
            config["arch"]["args"]["gru_config"]["hidden_dims"] = [24, 24]
        config["trainer"] |= {"epochs": 1, "ema_decay": 0.9, "save_dir": str(options.folder / "saved"), "log_step": 1}
        self._config.write_text(json.dumps(config), encoding="utf-8")

    def train(self, name: str, device: str, *assignments: str) -> None:
        """Train a new run to its end."""
        self.expect_code(name, 0, "train", self._arguments(device, *assignments))

    def killed_and_resumed(self, device: str) -> None:
        """Kill a run that would never end, resume it, end it with SIGTERM, and resume it once more."""
        endless = ("trainer.epochs=1000", "trainer.save_steps=1", "trainer.len_epoch=1000", "lr_scheduler=null")
        last = self._options.folder / "saved/models/check/killed/last.pth"
        first = self._arguments(device, *endless, "trainer.wandb_run=killed")
        resume = ["-r", str(last), "-d", device, *_sets(*endless)]
        for name, arguments, number, code in (
            ("train, SIGKILL", first, signal.SIGKILL, -signal.SIGKILL),
            ("-r, SIGTERM", resume, signal.SIGTERM, 143),
        ):
            before = last.stat().st_mtime_ns if last.is_file() else 0
            process, log = self._start("train", arguments)
            deadline = time.monotonic() + self._limit
            while process.is_alive() and time.monotonic() < deadline:
                # The first file is of step 0; a second one shows that training runs.
                if last.is_file() and last.stat().st_mtime_ns > before and "step " in log.read_text("utf-8"):
                    break
                time.sleep(0.05)
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)
            self._end(name, code, process, log)
        if not last.is_file():
            return  # reported above
        ended = ["trainer.epochs=1", *endless[1:]]
        step = int(torch.load(last, weights_only=True)["progress"]["step"])
        ended[2] = f"trainer.len_epoch={step + 1}"
        self.expect_code("-r to the end", 0, "train", ["-r", str(last), "-d", device, *_sets(*ended)])

    def expect_code(self, name: str, code: int, command: str, arguments: list[str]) -> None:
        """Run a command to its end and report its exit code."""
        self._end(name, code, *self._start(command, arguments))

    def long_file(self, seconds: int) -> Path:
        """Write a recording made of the demo's, at least this long; return its path."""
        paths = [Path(json.loads(line)["path"]) for line in _lines("dev")]
        pieces: list[Any] = []
        rate, total = 0, 0
        while total < seconds * max(1, rate):
            samples, rate = soundfile.read(Path("demo/corpus") / paths[len(pieces) % len(paths)], dtype="float32")
            pieces.append(samples)
            total += len(samples)
        path = self._options.folder / "long.wav"
        soundfile.write(path, np.concatenate(pieces), rate)
        return path

    def _arguments(self, device: str, *assignments: str) -> list[str]:
        return ["-c", str(self._config), "-d", device, *_sets(*assignments)]

    def _start(self, command: str, arguments: list[str]) -> tuple[ForkProcess, Path]:
        log = self._options.folder / "log.txt"
        log.write_text("", encoding="utf-8")
        process = multiprocessing.get_context("fork").Process(target=_run_command, args=(command, arguments, log))
        process.start()
        return process, log

    def _end(self, name: str, code: int, process: ForkProcess, log: Path) -> None:
        started = time.monotonic()
        process.join(self._limit)
        if process.is_alive():
            process.kill()
            process.join()
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        seconds = f"{time.monotonic() - started:.1f} s"
        if process.exitcode != code:
            said = " | ".join(lines[-3:])[-400:]
            expect(self._report, name, False, f"exit code {process.exitcode}, not {code}, after {seconds}: {said}")
            return
        rates = [line.split(" real time")[0].split()[-1] for line in lines if " real time" in line]
        self._report(Row(name, f"exit code {code}, {seconds}{f', {rates[-1]} real time' if rates else ''}", "ok"))


def _run_command(command: str, arguments: list[str], log: Path) -> None:
    """Become the command; its output goes to the log, and it ends with the process that started it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [f"hw-asr {command}", *arguments]
    run_command(lambda: run_hw_asr(command, arguments))


def _has_bf16(options: Options) -> bool:
    try:
        # In a process of its own, so that this one can still be forked.
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.apply(check_precision, (options.device, "bf16"))
    except DeviceError:
        return False
    return True


def _sets(*assignments: str) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


def _lines(split: str) -> list[str]:
    return Path(f"demo/corpus/{split}.jsonl").read_text(encoding="utf-8").splitlines()


def _first_lines(folder: Path, split: str, number: int) -> Path:
    """Write a manifest of the first recordings of a split; return its path."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in _lines(split)[:number]]
    for row in rows:
        row["path"] = str((Path("demo/corpus") / row["path"]).absolute())
    path = folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
