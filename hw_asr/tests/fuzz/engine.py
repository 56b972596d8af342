"""Targets, mutations, and the loop that feeds one to the other."""

from __future__ import annotations

import importlib
import pkgutil
import random
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from hw_asr.errors import UserError

SECONDS_PER_INPUT = 20.0
"""Processor time after which an input counts as one that hangs."""
_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1)
_PACKINGS = ("<b", "<h", "<i", "<q", ">h", ">i", ">q")


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


class Target(NamedTuple):
    """A parser under test."""

    seeds: Callable[[], Sequence[bytes]]
    """Returns small valid inputs."""
    parse: Callable[[Path], object]
    """Reads a file. It may raise `expected`, and nothing else."""
    suffix: str = ".bin"
    tokens: tuple[bytes, ...] = ()
    """Byte strings that mean something to the parser; they are inserted and replaced."""
    write: Callable[[Path, bytes], None] = _write_bytes
    """Makes the file of a mutated input, for example an archive with right checksums around it."""
    expected: tuple[type[Exception], ...] = (UserError,)


class Hang(BaseException):
    """An input took more than `SECONDS_PER_INPUT`."""


class Finding(NamedTuple):
    """An input and what it led to."""

    data: bytes
    error: BaseException


def targets() -> dict[str, Target]:
    """Return all targets by name."""
    package = importlib.import_module("hw_asr.tests.fuzz")
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name.startswith("target_")]
    return {
        name.removeprefix("target_").replace("_", "-"): importlib.import_module(f"hw_asr.tests.fuzz.{name}").TARGET
        for name in names
    }


def mutations(seeds: Sequence[bytes], tokens: Sequence[bytes], generator: random.Random) -> Iterator[bytes]:
    """Yield mutated inputs without end, the seeds themselves first."""
    yield from seeds
    while True:
        data = bytearray(generator.choice(seeds))
        for _ in range(generator.choice((1, 1, 2, 4, 8))):
            _mutate(data, seeds, tokens, generator)
        yield bytes(data)


def run(target: Target, directory: Path, inputs: Iterator[bytes]) -> Iterator[Finding | None]:
    """Feed inputs to a target, one per step; yield the finding, or None for an input that behaves.

    The file of the current input is `directory / ("input" + suffix)`, which stays when the process dies.
    """
    path = directory / f"input{target.suffix}"
    for data in inputs:
        target.write(path, data)
        error: BaseException | None = None
        try:
            with _time_limit():
                target.parse(path)
        except target.expected:
            pass
        except (Exception, Hang) as unexpected:
            error = unexpected
        yield None if error is None else Finding(data, error)


def _mutate(data: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes], generator: random.Random) -> None:
    start = generator.randrange(len(data) + 1)
    end = min(len(data), start + generator.choice((1, 1, 2, 4, 8, 16, 64, 1024)))
    kind = generator.randrange(9)
    if kind == 0 and start < len(data):
        data[start] ^= 1 << generator.randrange(8)
    elif kind == 1:
        data[start:end] = generator.randbytes(end - start)
    elif kind == 2:
        del data[start:end]
    elif kind == 3:
        data[start:start] = data[start:end] * generator.choice((1, 2, 100))
    elif kind == 4:
        number = _packed(generator)
        data[start : start + len(number)] = number
    elif kind == 5 and tokens:
        data[start:start] = generator.choice(tokens)
    elif kind == 6 and tokens:
        token = generator.choice(tokens)
        data[start : start + len(token)] = token
    elif kind == 7:
        other = generator.choice(seeds)
        data[start:] = other[generator.randrange(len(other) + 1) :]
    elif kind == 8:
        del data[start:]


def _packed(generator: random.Random) -> bytes:
    packing = generator.choice(_PACKINGS)
    bits = 8 * struct.calcsize(packing)
    number = generator.choice(_NUMBERS) % 2**bits
    return struct.pack(packing, number - 2**bits if number >= 2 ** (bits - 1) else number)


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise Hang in the block after too much processor time; a busy machine does not matter."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS_PER_INPUT:g} s of processor time")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_INPUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
