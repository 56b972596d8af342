"""The writers of a training run: metrics.jsonl, and those that `trainer.visualize` names."""

from __future__ import annotations

from collections.abc import Mapping

from hw_asr.config import ExperimentConfig
from hw_asr.config.registry import WRITERS
from hw_asr.storage.runs import Run
from hw_asr.writers.background import BackgroundWriter
from hw_asr.writers.base import LoggedRun, Writer
from hw_asr.writers.jsonl import JsonlWriter
from hw_asr.writers.multi import MultiWriter

WRITER_STATE = {"metrics_bytes": 0, "tensorboard_step": 0, "wandb_id": ""}
"""Keys and types of the states of all writers."""


def make_writer(config: ExperimentConfig, run: Run, state: Mapping[str, object]) -> Writer:
    """Return one writer that logs to all; `state` is that of the checkpoint, empty for a new run."""
    trainer = config.trainer
    names = [trainer.visualize] if isinstance(trainer.visualize, str) else trainer.visualize
    record: Writer = JsonlWriter(run.metrics_path, state)
    logged = LoggedRun(run.name, run.log_dir, run.experiment, config.raw, dict(state) or None)
    project = trainer.wandb_project or config.name
    backends = [
        WRITERS.build({"type": name}, run=logged, project=project, mode=trainer.wandb_mode)
        for name in names
        if name != "none"
    ]
    return MultiWriter([record, *map(BackgroundWriter, backends)])
