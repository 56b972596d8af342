"""The command line of train.py, and the config that it asks for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hw_asr.config import ConfigError, ExperimentConfig, RawConfig, override, read_json
from hw_asr.config.arguments import parameters
from hw_asr.config.registry import SCHEDULERS
from hw_asr.experiment.checkpoint_config import for_training
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.experiment.validation import validate
from hw_asr.storage.runs import Run


class Request(NamedTuple):
    """The command line of train.py: at least one of `config` and `resume` is given."""

    config: Path | None
    resume: Path | None
    assignments: Sequence[str] = ()
    device: str | None = None
    learning_rate: float | None = None
    allowed_modules: frozenset[str] = frozenset()
    trust_config: bool = False
    auto_resume: bool = False


def read_request(request: Request) -> tuple[ExperimentConfig, Run | None]:
    """Return the validated config and, when a run is to be continued, that run. Raises ConfigError."""
    if request.config is not None:
        config = validate(override(read_json(request.config), request.assignments), str(request.config))
        return with_learning_rate(config, request.learning_rate), None
    assert request.resume is not None, "the command line asks for one of them"
    named = Named(assignments=request.assignments, trust=Trust(request.allowed_modules, request.trust_config))
    config = for_training(request.resume, named).config
    return with_learning_rate(config, request.learning_rate), Run.of_checkpoint(request.resume)


def with_learning_rate(config: ExperimentConfig, rate: float | None) -> ExperimentConfig:
    """Return the config with the learning rate of `--lr`, if any."""
    return config if rate is None else validate(override(config.raw, rate_assignments(config.raw, rate)), "--lr")


def rate_assignments(raw: RawConfig, rate: float) -> list[str]:
    """Return the assignments that `--lr` stands for.

    Under OneCycleLR, which ignores the optimiser's rate, it is the highest rate. Raises ConfigError under a schedule
    of two rates, CyclicLR.
    """
    value, spec = json.dumps(rate), raw.get("lr_scheduler")
    try:
        names = parameters(SCHEDULERS.find(spec)) if isinstance(spec, dict) else {}
    except LookupError:  # an unknown schedule, which validation explains
        names = {}
    if spec and "base_lr" in names:
        raise ConfigError(
            [f"--lr: {spec['type']} ignores it; set lr_scheduler.args.base_lr and lr_scheduler.args.max_lr with --set"]
        )
    highest = [f"lr_scheduler.args.max_lr={value}"] if "max_lr" in names else []
    return [f"optimizer.args.lr={value}", *highest]
