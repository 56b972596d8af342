"""TensorBoard."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hw_asr.config.registry import WRITERS
from hw_asr.runtime.optional import optional_import
from hw_asr.writers.base import AudioClip, LoggedRun

if TYPE_CHECKING:  # results are written and reported without torch
    from torch import Tensor


@WRITERS.register("tensorboard")
class TensorboardWriter:
    """Writes event files to `tensorboard` in the run's log directory; `tensorboard --logdir saved/log` shows them.

    A table becomes a Markdown text, its audio clips become NAME/ROW. Of a resumed run, TensorBoard ignores the
    steps after the checkpoint that were logged before, because the run logs them again.
    """

    def __init__(self, run: LoggedRun) -> None:
        with optional_import("TensorBoard logging", "tensorboard", "tensorboard"):
            import PIL.Image  # noqa: F401 -- two threads that import it at the same time get an incomplete module
            from torch.utils.tensorboard import SummaryWriter

        last_step = (run.state or {}).get("tensorboard_step")
        self._last_step: int = -1 if last_step is None else last_step
        self._writer = SummaryWriter(
            str(run.log_dir / "tensorboard"), purge_step=None if last_step is None else last_step + 1, flush_secs=10
        )
        if run.config is not None and last_step is None:
            indented = "".join(f"    {line}\n" for line in json.dumps(run.config, indent=2).splitlines())
            self._writer.add_text("config", indented, 0)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers under their names; a name like `train/loss` makes a section."""
        self._last_step = max(self._last_step, step)
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)

    def table(self, step: int, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Log rows of plain values and AudioClips."""
        lines = [columns, ["---"] * len(columns), *rows]
        self._writer.add_text(name, "\n".join(_markdown_row(line) for line in lines), step)
        for index, row in enumerate(rows):
            for value in row:
                if isinstance(value, AudioClip):
                    samples = value.samples.detach().float().cpu().reshape(1, -1)
                    self._writer.add_audio(f"{name}/{index}", samples, step, sample_rate=value.sample_rate)

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log a picture, (H, W, 3) uint8."""
        self._writer.add_image(name, pixels.cpu().numpy(), step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: Tensor) -> None:
        """Log the distribution of the finite values of a tensor of any shape; nothing when there are none."""
        finite = values.detach().float().flatten()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._writer.add_histogram(name, finite.cpu().numpy(), step)

    def state_dict(self) -> dict[str, object]:
        """Write all events to the disk and return the last step."""
        self._writer.flush()
        return {"tensorboard_step": self._last_step}

    def close(self) -> None:
        """Write all events and close."""
        self._writer.close()


def _markdown_row(values: Sequence[object]) -> str:
    cells = ["(audio)" if isinstance(value, AudioClip) else html.escape(str(value)) for value in values]
    return "| " + " | ".join(cell.replace("|", "&#124;").replace("\n", " ") for cell in cells) + " |"
