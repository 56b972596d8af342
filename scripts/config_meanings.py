"""Descriptions of the keys of a config: from dataclasses, from constructors, and those that are only here."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from itertools import pairwise
from typing import Any

NOT_IN_CONFIGS = ("text_encoder", "shard", "durations", "seed", "rank", "world_size", "window_fn")
"""Arguments of components that a config cannot give."""

# Keys that the dataclasses do not describe.
MEANINGS = {
    "name": "Name of the experiment: the directory of its runs.",
    "arch": "The acoustic model.",
    "data": "`root_dir` and the splits; see [data](#data).",
    "trainer": "See [trainer](#trainer).",
    "preprocessing": "See [preprocessing](#preprocessing).",
    "augmentations": "See [augmentations](#augmentations).",
    "optimizer": "The optimiser, from `torch.optim`; with `groups`, "
    "[other settings](training.md#parameter-groups) for some parameters.",
    "text_encoder": "The alphabet, optionally with a language model.",
    "loss": "The objective.",
    "metrics": "Computed after each epoch on every split except `train`; `monitor` refers to them by `name`.",
    "lr_scheduler": "The schedule, from `torch.optim.lr_scheduler`; null: a constant learning rate. A length may be "
    '`"auto"` ([schedules](training.md#learning-rate-schedules)).',
    "decoders": "Decoders of `test.py` and of metrics that name one; null: `argmax`, `beam_search`, and "
    "`lm_beam_search` if the text encoder has a language model.",
    "n_gpu": "0: use the CPU; otherwise a GPU if there is one. For more than one use `torchrun`.",
    "preprocessing.spectrogram": "The transform; see [spectrograms](#spectrograms).",
    "augmentations.wave": "Augmentations of waveforms; see [its section](#wave-augmentations).",
    "augmentations.spectrogram": "Augmentations of features; see [its section](#spectrogram-augmentations).",
    "data.SPLIT.datasets": "One or more [datasets](#datasets), concatenated.",
    "data.SPLIT.batch_size": "Utterances in a batch: random in `train`, of similar duration in other splits.",
    "data.SPLIT.batch_sampler": "Instead of `batch_size`: a [batch sampler](#batch-samplers).",
    "data.SPLIT.num_workers": "Processes that decode recordings; 0: the training process itself.",
    "trainer.epochs": "Epochs to train.",
    "trainer.save_dir": "Checkpoints go to `SAVE_DIR/models/NAME/RUN`, logs to `SAVE_DIR/log/NAME/RUN`.",
    "trainer.wandb_project": "W&B project; null: the config's `name`, with hyphens for characters that W&B refuses.",
    "trainer.wandb_mode": "null: online with a key and a connection, otherwise offline.",
    "trainer.log_histograms": "Log a histogram of every parameter each `log_step`.",
    "trainer.grad_norm_clip": "Largest norm of the gradient; null: no limit. The norm is always logged.",
    "trainer.precision": "Arithmetic of the model's forward pass; weights stay float32. fp16 uses a loss scaler.",
    "trainer.seed": "Seed of weights, batches, augmentations and dropout.",
    "trainer.transfer": "What a run takes over from a checkpoint's weights, and what it does not train; "
    "see [below](#trainertransfer).",
    "trainer.external_storage": "Where checkpoints are exported to while training; see [storages](#storages).",
}


def attribute_docstrings(dataclass: type) -> dict[str, str]:
    """Return the strings that stand below a class's fields, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(dataclass))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = one_line(ast.literal_eval(below.value))
    return found


def split_docstring(factory: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return a docstring without its `Args:`, and these by name."""
    text, _, rest = (inspect.getdoc(factory) or "").partition("\nArgs:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", rest, flags=re.MULTILINE)
    return text.strip(), {name: one_line(meaning) for name, meaning in entries}


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())
