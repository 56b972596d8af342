"""The language models that LibriSpeech publishes, by name, and the text encoder that brings one along."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

from hw_asr.config.registry import TEXT_ENCODERS
from hw_asr.errors import UserError, nearest
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.text.encoder import CTCCharTextEncoder

BASE_URL = "https://www.openslr.org/resources/11/"
LOWERCASE = "lowercase_"
"""Prefix of the names of lower-cased models; as published they are upper case."""
_REMOTE_FILES = {
    **{name: f"{name}.gz" for name in ("3-gram.arpa", "3-gram.pruned.1e-7.arpa", "3-gram.pruned.3e-7.arpa")},
    "librispeech-vocab.txt": "librispeech-vocab.txt",
}
KNOWN_NAMES = tuple(prefix + name for prefix in ("", LOWERCASE) for name in _REMOTE_FILES)
_BLOCK = 1 << 22


class LanguageModelFileError(UserError):
    """A language model that is neither a file nor a known name, or that arrived damaged."""


def resolve(name_or_path: str, directory: Path, base_url: str = BASE_URL) -> Path:
    """Return the file of a language model: a path, a file in `directory`, or a LibriSpeech name.

    The file of a name is downloaded to `directory` once, unpacked, and lower-cased if the name has that prefix; the
    download is kept beside it. Raises LanguageModelFileError when there is no such file or it cannot be unpacked.
    """
    existing = _existing(name_or_path, directory)
    if existing is not None:
        return existing
    if name_or_path not in KNOWN_NAMES:
        raise LanguageModelFileError(
            f"language model {name_or_path!r}: no such file, also not in {directory}; give the path of an ARPA file, "
            f"an .arpa.gz or a KenLM binary, or a name{nearest(name_or_path, KNOWN_NAMES)}"
        )
    remote = _REMOTE_FILES[name_or_path.removeprefix(LOWERCASE)]
    source = directory / remote
    if not source.is_file():
        from hw_asr.runtime.download import download

        download(base_url.rstrip("/") + "/" + remote, source, description=remote)
    target = directory / name_or_path
    if target != source:
        _unpack(source, target, lowercase=name_or_path.startswith(LOWERCASE))
    return target


def _existing(name_or_path: str, directory: Path) -> Path | None:
    """Return the file of a language model that is here."""
    paths = Path(os.path.expanduser(name_or_path)), directory / name_or_path  # noqa: PTH111
    return next((path for path in paths if path.is_file()), None)


def _unpack(source: Path, target: Path, lowercase: bool) -> None:
    """Write the content of `source` to `target`, which appears when it is whole."""
    try:
        with write_and_rename(target) as file:
            for block in _blocks(source, f"unpacking {target.name}"):
                file.write(block.lower() if lowercase else block)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        source.unlink()
        raise LanguageModelFileError(f"{source}: damaged ({error}) and removed; run again to download it") from error


def _blocks(source: Path, description: str) -> Iterator[bytes]:
    """Yield the unpacked content of a file, .gz or not; the progress bar counts what is read from disk."""
    size = source.stat().st_size
    with (
        source.open("rb") as raw,
        tqdm(total=size, unit="B", unit_scale=True, desc=description, delay=1, disable=None) as progress,
    ):
        file: IO[bytes] | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if source.suffix == ".gz" else raw
        while block := file.read(_BLOCK):
            progress.update(raw.tell() - progress.n)
            yield block


@TEXT_ENCODERS.register()
class LibrispeechKenLMCTCCharTextEncoder(CTCCharTextEncoder):
    """Characters, and the language model that beam search over them is to use.

    `model` is a LibriSpeech name or a path. Making an encoder touches neither disk nor network; the model is
    downloaded to `models_dirpath` when `language_model_path` is first called. Raises ValueError for weights and
    widths that cannot be.
    """

    def __init__(
        self,
        model: str = "lowercase_3-gram.pruned.1e-7.arpa",
        models_dirpath: Path = Path("lms"),
        alpha: float = 0.5,
        beta: float = 1.0,
        beam_width: int = 100,
        alphabet: list[str] | str | None = None,
        base_url: str = BASE_URL,
    ) -> None:
        super().__init__(alphabet)
        if not model:
            raise ValueError("model: expected a path or the name of a language model, got ''")
        for name, weight in (("alpha", alpha), ("beta", beta)):
            if not math.isfinite(weight):
                raise ValueError(f"{name}: expected a finite number, got {weight}")
        if alpha < 0:
            raise ValueError(f"alpha: expected a weight of 0 or more, got {alpha}")
        if beam_width < 1:
            raise ValueError(f"beam_width: expected at least 1, got {beam_width}")
        self.model = model
        self.models_dirpath = models_dirpath
        self.alpha = alpha
        self.beta = beta
        self.beam_width = beam_width
        self.base_url = base_url

    @property
    def needs_download(self) -> bool:
        """Whether the model has a name and is not here, so that `language_model_path` downloads or unpacks it."""
        return self.model in KNOWN_NAMES and _existing(self.model, self.models_dirpath) is None

    def language_model_path(self) -> Path:
        """Return the model's file, downloaded and lower-cased if it is a name and not there yet."""
        return resolve(self.model, self.models_dirpath, self.base_url)
