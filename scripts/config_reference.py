"""Write docs/config.md: every key of a config with its type, default and meaning, read off the code itself."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
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

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "config.md"

# What the types alone do not say and config.py has no words for.
MEANINGS = {
    "name": "Name of the experiment: the directory of its runs.",
    "arch": "The acoustic model.",
    "data": "`root_dir` and the splits; see [data](#data).",
    "trainer": "See [trainer](#trainer).",
    "preprocessing": "See [preprocessing](#preprocessing).",
    "augmentations": "See [augmentations](#augmentations).",
    "optimizer": "The optimiser, from `torch.optim`.",
    "text_encoder": "The alphabet, and perhaps a language model.",
    "loss": "The objective.",
    "metrics": "What is computed on every split but `train` after each epoch; their `name` is what `monitor` reads.",
    "lr_scheduler": "The schedule, from `torch.optim.lr_scheduler`; null: a constant learning rate.",
    "decoders": "Decoders of `test.py`, and of the metrics that name them; null: `argmax`, `beam_search`, and "
    "`lm_beam_search` if the text encoder brings a language model.",
    "n_gpu": "0: never a GPU; otherwise one is used where there is one. More than one: `torchrun`.",
    "preprocessing.spectrogram": "The transform; see [spectrograms](#spectrograms).",
    "augmentations.wave": "Of waveforms; see [wave augmentations](#wave-augmentations).",
    "augmentations.spectrogram": "Of features; see [spectrogram augmentations](#spectrogram-augmentations).",
    "data.SPLIT.datasets": "One or more [datasets](#datasets), read as one.",
    "data.SPLIT.batch_size": "Utterances in a batch: random ones in `train`, similar durations elsewhere.",
    "data.SPLIT.batch_sampler": "Instead of `batch_size`: a [batch sampler](#batch-samplers).",
    "data.SPLIT.num_workers": "Processes that decode recordings; 0: the training process itself.",
    "trainer.epochs": "Epochs to train.",
    "trainer.save_dir": "Checkpoints go to `SAVE_DIR/models/NAME/RUN`, logs to `SAVE_DIR/log/NAME/RUN`.",
    "trainer.wandb_project": "W&B project; null: the config's `name`.",
    "trainer.wandb_mode": "null: online with a key and a connection, otherwise offline.",
    "trainer.log_histograms": "Log a histogram of every parameter each `log_step`.",
    "trainer.grad_norm_clip": "Norm that longer gradients are scaled down to; null: none. The norm is logged anyway.",
    "trainer.precision": "Arithmetic of the model's forward pass; weights stay float32. fp16 comes with a loss scaler.",
    "trainer.seed": "Of weights, batches, augmentations and dropout.",
    "trainer.external_storage": "Where checkpoints are exported to while training; see [storages](#storages).",
}

INTRODUCTION = """# Config

One JSON file is one experiment. `python train.py -c config.json --check` says what is wrong with it, all at once, or
what it would do. `--set KEY=VALUE` overrides any key by its dotted path (list items by index:
`--set data.train.datasets.0.args.limit=100`). `test.py -c overlay.json` replaces whole top-level sections.

A **spec** is `{"type": NAME, "args": {...}, "module": "importable.module"}`. `args` are the arguments of the class that
`type` names; without `module` it is one of those below, with it one of [your own](extending.md). Arguments marked
*given* come from the program when they are left out.

This page is written by `scripts/config_reference.py` from the code; a test holds them together.
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
    """Write the page, or with --check say whether it is what would be written; return 0 or 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is not current")
    options = parser.parse_args(arguments)
    text = page()
    if options.check:
        current = OUTPUT.is_file() and OUTPUT.read_text(encoding="utf-8") == text
        print(f"{OUTPUT.name}: {'current' if current else 'not current; run python scripts/config_reference.py'}")
        return 0 if current else 1
    with write_and_rename(OUTPUT, "w") as file:
        file.write(text)
    return 0


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
    for title, kind, note in KINDS:
        blocks += [f"## {title}", _one_line(note)]
        for name in kind.registered():
            blocks += component(name, kind)
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def section(dataclass: type, prefix: str) -> str:
    """Return the table of a section's keys; raises KeyError for one that nobody has described."""
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
        if name in ("text_encoder", "durations", "seed", "rank", "world_size", "window_fn"):
            continue  # not set in a config
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


def attribute_docstrings(dataclass: type) -> dict[str, str]:
    """Return the strings that stand below a class's fields, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(dataclass))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = _one_line(ast.literal_eval(below.value))
    return found


def split_docstring(factory: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring without its `Args:`, and these by name."""
    text, _, rest = (inspect.getdoc(factory) or "").partition("\nArgs:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", rest, flags=re.MULTILINE)
    return text.strip(), {name: _one_line(meaning) for name, meaning in entries}


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


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    run_command(main)
