"""Writes docs/config.md, every key of a config with type, default and meaning, and docs/config.schema.json."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hw_asr.config import registry
from hw_asr.config import schema as config
from hw_asr.config.arguments import describe, parameters
from hw_asr.config.registry import Registry
from hw_asr.datasets.corpus import FilteredCorpus
from hw_asr.experiment import components
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.entry_point import run_command
from scripts import config_schema
from scripts.config_meanings import MEANINGS, NOT_IN_CONFIGS, attribute_docstrings, one_line, split_docstring

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "config.md"

INTRODUCTION = """# Config

One JSON file describes one experiment. `python train.py -c config.json --check` lists every fault of a config, or
prints what would run. `--set KEY=VALUE` overrides any key by its dotted path (list items by index:
`--set data.train.datasets.0.args.limit=100`). `test.py -c overlay.json` replaces whole top-level sections.
In paths, a leading `~` is your home directory.

Editors complete and check keys with [config.schema.json](config.schema.json), a JSON Schema: give its path as
`"$schema"` in the config, or in the editor's settings.

A **spec** is `{"type": NAME, "args": {...}, "module": "importable.module"}`. `args` are the arguments of the class that
`type` names: one of those below, or with `module` one of [your own](extending.md). The program supplies arguments
marked *given* if a config does not.

`scripts/config_reference.py` generates this page and the schema from the code; a test checks that they are current.
"""

DATA_NOTE = (
    "`root_dir` (a path, default `data`): where datasets look for data, and download it to. Every other key names a "
    "split. `train` is trained on; every other one is evaluated after each epoch."
)
SPECTROGRAM_NOTE = (
    "For `preprocessing.spectrogram`. The results are those of torchaudio. Other transforms of `torchaudio.transforms` "
    "that contain a `Spectrogram`, such as `LFCC`, are available if torchaudio is installed."
)
P = "`p` is the probability that an utterance is changed."
METRIC_NOTE = "For `metrics`. Each also logs `NAME corpus`: all edits over all reference words or characters."
KINDS: list[tuple[str, Registry[Any], str]] = [
    ("Models", registry.MODELS, "For `arch`."),
    ("Datasets", registry.DATASETS, "For `data.SPLIT.datasets`. " + inspect.getdoc(FilteredCorpus).split("\n\n")[1]),  # type: ignore[union-attr]
    ("Batch samplers", registry.SAMPLERS, "For `data.SPLIT.batch_sampler`."),
    ("Spectrograms", registry.SPECTROGRAMS, SPECTROGRAM_NOTE),
    ("Wave augmentations", registry.WAVE_AUGMENTATIONS, P),
    ("Spectrogram augmentations", registry.SPECTROGRAM_AUGMENTATIONS, P),
    ("Text encoders", registry.TEXT_ENCODERS, "For `text_encoder`."),
    ("Decoders", registry.DECODERS, "For `decoders`."),
    ("Losses", registry.LOSSES, "For `loss`."),
    ("Metrics", registry.METRICS, METRIC_NOTE),
    ("Storages", registry.STORAGES, "For `trainer.external_storage`; see [gdrive_storage.md](gdrive_storage.md)."),
]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Write both files, or with --check only compare them; return 0, or 1 when a file is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not current")
    options = parser.parse_args(arguments)
    outdated = 0
    for path, text in ((OUTPUT, page()), (config_schema.OUTPUT, config_schema.text())):
        if not options.check:
            with write_and_rename(path, "w") as file:
                file.write(text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{path.name}: not current; run python scripts/config_reference.py")
            outdated = 1
    return outdated


def page() -> str:
    """Return the whole page, Markdown."""
    blocks = [INTRODUCTION, "## Top level", section(config._Sections, "")]
    blocks += ["## preprocessing", section(config.Preprocessing, "preprocessing.")]
    blocks += [
        "## augmentations",
        "Applied in order, to the `train` split only; see [augmentations.md](augmentations.md).",
    ]
    blocks += [section(config.Augmentations, "augmentations.")]
    blocks += ["## data", DATA_NOTE]
    blocks += [section(config.Split, "data.SPLIT.")]
    blocks += ["## trainer", section(config.TrainerConfig, "trainer.")]
    blocks += ["### trainer.transfer", section(config.Transfer, "trainer.transfer.")]
    for title, kind, note in KINDS:
        blocks += [f"## {title}", one_line(note)]
        for name in kind.registered():
            blocks += component(name, kind)
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def section(dataclass: type, prefix: str) -> str:
    """Return the table of a section's keys; raises KeyError for a key without a description."""
    hints, described = get_type_hints(dataclass), attribute_docstrings(dataclass)
    rows = []
    for field in dataclasses.fields(dataclass):
        meaning = described.get(field.name) or MEANINGS[prefix + field.name]
        rows.append((f"`{prefix}{field.name}`", _type(hints[field.name], str(field.type)), _default(field), meaning))
    return table(("key", "type", "default", "meaning"), rows)


def component(name: str, kind: Registry[Any]) -> Iterator[str]:
    """Yield the heading, the description and the arguments of a registered class."""
    factory = kind.find({"type": name})
    text, described = split_docstring(factory)
    yield f"### `{name}`"
    yield text
    provided = components.PROVIDED.get(kind.kind, ())
    rows = list(arguments_of(factory, described, "", provided))
    if rows:
        columns = (
            ("argument", "type", "default", "meaning")
            if any(row[3] for row in rows)
            else ("argument", "type", "default")
        )
        yield table(columns, rows)


def arguments_of(
    factory: Callable[..., Any], described: dict[str, str], prefix: str, provided: tuple[str, ...]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, type, default and meaning of each argument, nested objects after what holds them."""
    signature = inspect.signature(factory)
    for name, (annotation, required) in parameters(factory).items():
        if name in NOT_IN_CONFIGS:
            continue
        default = (
            "*given*"
            if name in provided
            else "required"
            if required
            else f"`{_json(signature.parameters[name].default)}`"
        )
        yield f"`{prefix}{name}`", _type(annotation), default, described.get(name, "")
        for option in (annotation, *get_args(annotation)):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                yield from arguments_of(option, split_docstring(option)[1], f"{prefix}{name}.", ())


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table of as many cells of each row as there are columns."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row[: len(columns)]) + " |" for row in rows]
    return "\n".join(lines)


def _type(annotation: Any, source: str = "") -> str:
    """Say which JSON a type is; `source` is the annotation as it is written, for what only its name tells."""
    if "Spec" in source:
        return ("a list of specs" if source.startswith("list") else "a spec") + " or null" * source.endswith("None")
    return describe(annotation).removesuffix(" or a value")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return "" if dataclasses.is_dataclass(field.default) else f"`{_json(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{_json(field.default_factory())}`"
    return "required"


def _json(value: Any) -> str:
    return json.dumps(value.as_posix() if isinstance(value, Path) else value, ensure_ascii=False)


if __name__ == "__main__":
    run_command(main)
