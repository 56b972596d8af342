"""The `listen` command: live recognition of a microphone, a pipe or a file."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from types import FrameType

import hw_asr
from hw_asr.cli.errors import UsageError
from hw_asr.recognition.recogniser import Recogniser
from hw_asr.runtime.console import set_up_logging
from hw_asr.streaming.display import Display, JsonLines, Lines
from hw_asr.streaming.sources import Pieces, Source, of_microphone, of_pipe, of_recording


def run(options: argparse.Namespace) -> int:
    """Recognise until the audio ends or Ctrl-C, print, and return 0. Raises UserError."""
    set_up_logging(1)
    phrases = [phrase.strip() for phrase in (options.hotwords or "").split(",") if phrase.strip()]
    recogniser = hw_asr.load(
        options.resume,
        decoder=options.decoder,
        language_model=options.lm,
        hotwords=phrases,
        device=options.device,
        skip_silence=not options.keep_silence,
        allow_modules=options.allowed_modules,
    )
    recogniser.stream()  # refuses a model that cannot, before the audio is opened
    source = _source(options, recogniser)
    stream = recogniser.stream(source.sample_rate)
    display = _display(as_json=options.json)
    with _UntilInterrupted(source.pieces) as pieces:
        for piece in pieces:
            display.show(stream.accept(piece))
        display.finish(stream.finish())
    return 0


def _source(options: argparse.Namespace, recogniser: Recogniser) -> Source:
    if options.microphone:
        source = of_microphone(recogniser.sample_rate)
        print("listening; Ctrl-C ends", file=sys.stderr)
        return source
    if options.source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed; give a recording, or a pipe")
        return of_pipe(sys.stdin.buffer, options.rate or recogniser.sample_rate)
    recording = recogniser.read(options.source)
    if recording.warning is not None:
        print(f"warning: {options.source}: {recording.warning}", file=sys.stderr)
    return of_recording(recording.samples, recogniser.sample_rate, options.real_time)


def _display(*, as_json: bool) -> Display:
    if as_json:
        return JsonLines(sys.stdout)
    return Lines(sys.stdout, sys.stderr if sys.stdout.isatty() and sys.stderr.isatty() else None)


class _UntilInterrupted:
    """Iterates over pieces until they end or until Ctrl-C, which never interrupts the work on a piece.

    The second Ctrl-C ends the process at once.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._is_waiting = self._is_interrupted = False

    def __enter__(self) -> Pieces:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupt)
        return self._until_interrupted()

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._previous)

    def _until_interrupted(self) -> Pieces:
        while not self._is_interrupted:
            try:
                self._is_waiting = True
                piece = next(self._pieces, None)
                self._is_waiting = False
            except KeyboardInterrupt:
                return
            if piece is None:
                return
            yield piece

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._is_interrupted = True
        if self._is_waiting:
            self._is_waiting = False
            raise KeyboardInterrupt
