"""Weights & Biases."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from hw_asr.config.registry import WRITERS
from hw_asr.errors import UserError
from hw_asr.runtime.optional import optional_import
from hw_asr.writers.base import AudioClip, LoggedRun
from hw_asr.writers.wandb_account import is_reachable, key_is_known
from hw_asr.writers.wandb_file import wait_for_exit

if TYPE_CHECKING:  # results are written and reported without torch; wandb is imported by the first writer
    from torch import Tensor
    from wandb import Run, Settings

logger = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
LONGEST_NAME = 128
"""Characters of the name of a project, run or group that W&B accepts."""


@WRITERS.register("wandb")
class WandbWriter:
    """Logs to the W&B project `project`; offline runs and table media are stored under the run's `log_dir`.

    Names are cut to 128 characters, and those that W&B refuses in the name of a project become hyphens.

    `mode` defaults to the variable WANDB_MODE, and then to online. A run without an API key, or without a connection to
    the server, is logged offline, with one warning. There is no prompt for a key. `close` waits at most
    `finish_timeout` seconds for uploads, or for the offline file to be complete. A resumed run continues under its id;
    steps that W&B already has are not sent again.
    """

    def __init__(
        self,
        project: str,
        run: LoggedRun,
        mode: Mode | None = None,
        entity: str | None = None,
        tags: list[str] | None = None,
        finish_timeout: float = 120.0,
    ) -> None:
        with optional_import("W&B logging", "wandb", "wandb"):
            import PIL.Image  # noqa: F401 -- two threads that import it at the same time get an incomplete module
            import wandb

        self._wandb: ModuleType = wandb
        os.environ.setdefault("WANDB_DATA_DIR", str(run.log_dir.absolute()))  # the only setting for media of tables
        run.log_dir.mkdir(parents=True, exist_ok=True)
        earlier_id = (run.state or {}).get("wandb_id")
        arguments = {
            "project": re.sub(r"[/\\#?%:]", "-", project)[:LONGEST_NAME],
            "name": run.name[:LONGEST_NAME],
            "group": run.experiment and run.experiment[:LONGEST_NAME],
            "entity": entity,
            "tags": tags,
            "config": run.config,
            "dir": str(run.log_dir),
            "id": earlier_id,
            "reinit": "create_new",
        }
        if "WANDB_API_KEY" in os.environ:  # pasted secrets end in a newline, which W&B refuses in every mode
            os.environ["WANDB_API_KEY"] = os.environ["WANDB_API_KEY"].strip()
        try:
            self._run, started = _start(wandb, arguments, mode or os.environ.get("WANDB_MODE"), finish_timeout)
        except (wandb.Error, ValueError) as error:  # a ValueError from the checks of its settings
            reason = " ".join(str(error).split())
            raise UserError(f"W&B cannot start: {reason}; or leave wandb out of trainer.visualize") from error
        self._id = earlier_id if started == "disabled" else self._run.id
        self._offline_file = Path(self._run.settings.sync_file) if started == "offline" else None
        self._finish_timeout = finish_timeout
        self._first_step = self._run.starting_step if started == "online" else 0

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers under their names; a name like `train/loss` makes a section."""
        self._log(step, {name: float(value) for name, value in values.items()})

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Log rows of plain values and AudioClips."""
        if step >= self._first_step:
            cells = [[self._cell(value) for value in row] for row in rows]
            self._log(step, {name: self._wandb.Table(columns=list(columns), data=cells)})

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log a picture, (H, W, 3) uint8."""
        self._log(step, {name: self._wandb.Image(pixels.cpu().numpy())})

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Log the distribution of the finite values of a tensor of any shape; nothing when there are none."""
        finite = values.detach().float().flatten()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._log(step, {name: self._wandb.Histogram(finite.cpu().numpy(), num_bins=64)})

    def state_dict(self) -> dict[str, object]:
        """Return the run's id."""
        return {"wandb_id": self._id} if self._id else {}

    def close(self) -> None:
        """Upload what is left and end the run; an offline run's file is complete afterwards."""
        self._run.finish()
        if self._offline_file is not None and not wait_for_exit(self._offline_file, self._finish_timeout):
            logger.warning(
                "W&B has not completed %s after %g s; the end of the run may be missing in it",
                self._offline_file, self._finish_timeout,
            )  # fmt: skip

    def _log(self, step: int, values: dict[str, object]) -> None:
        if step >= self._first_step:
            self._run.log(values, step=step)

    def _cell(self, value: object) -> object:
        if isinstance(value, AudioClip):
            return self._wandb.Audio(value.samples.detach().float().cpu().numpy(), sample_rate=value.sample_rate)
        return value


def _start(
    wandb: ModuleType, arguments: dict[str, object], wanted: str | None, finish_timeout: float
) -> tuple[Run, Mode]:
    """Start a run in the requested mode, or offline; return it with its mode."""
    mode, reason = _choose_mode(wanted, wandb.setup().settings)
    if mode == "online":
        settings = wandb.Settings(init_timeout=60, login_timeout=30, finish_timeout=finish_timeout)
        try:
            return wandb.init(**arguments, mode=mode, resume="allow", settings=settings), mode
        except (wandb.Error, OSError) as error:  # a TimeoutError is an OSError
            mode, reason = "offline", " ".join(str(error).split()) or type(error).__name__
    run = wandb.init(**arguments, mode=mode, settings=wandb.Settings(silent=True))
    if mode == "offline":
        level = logging.WARNING if reason else logging.INFO
        why = f": {reason}" if reason else ""
        logger.log(level, "W&B logs offline%s; to upload the run: wandb sync %s", why, run.settings.sync_dir)
    return run, mode


def _choose_mode(wanted: str | None, settings: Settings) -> tuple[Mode, str]:
    """Return online, offline or disabled, and why it is not the requested mode."""
    if wanted in ("offline", "dryrun"):
        return "offline", ""
    if wanted == "disabled":
        return "disabled", ""
    if not key_is_known(settings.base_url, settings.api_key):
        return "offline", "no API key (run `wandb login` or set WANDB_API_KEY)"
    if not is_reachable(settings.base_url):
        return "offline", f"no response from {settings.base_url}"
    return "online", ""
