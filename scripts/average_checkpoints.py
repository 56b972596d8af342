"""Average the weights of several checkpoints into one that test.py and fine-tuning take.

python scripts/average_checkpoints.py saved/models/EXP/RUN/checkpoint-epoch*.pth -o saved/models/EXP/RUN/average.pth
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hw_asr.errors import UserError
from hw_asr.runtime.entry_point import run_command


def main(arguments: list[str] | None = None) -> int:
    """Write the average; return 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CKPT", help="the newest last")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CKPT",
                        help="best beside the others, where their config.json is")  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        from hw_asr.checkpoints.reading import load_checkpoint
        from hw_asr.checkpoints.writing import save_checkpoint

        loaded = [load_checkpoint(path) for path in options.checkpoints]
        last = loaded[-1]
        kept = {name: last.get(name) for name in ("arch", "epoch", "alphabet", "config")}
        state_dict = average([each["state_dict"] for each in loaded], options.checkpoints)
        save_checkpoint({**kept, "state_dict": state_dict}, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.output}, the average of {len(loaded)} checkpoints")
    return 0


def average(state_dicts: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> dict[str, Any]:
    """Return the mean of every tensor of real numbers, running statistics included; counts are the last one's.

    Raises CheckpointError when the checkpoints are not of one architecture.
    """
    from hw_asr.checkpoints.reading import CheckpointError

    shapes = [{name: value.shape for name, value in each.items()} for each in state_dicts]
    for path, each in zip(paths, shapes, strict=True):
        if each != shapes[-1]:
            unlike = [name for name in each.keys() | shapes[-1].keys() if each.get(name) != shapes[-1].get(name)]
            raise CheckpointError(
                f"{path}: another architecture than {paths[-1]}'s: {', '.join(sorted(unlike)[:3])} differ"
            )
    result = {}
    for name, value in state_dicts[-1].items():
        if value.is_floating_point():
            total = sum(each[name].double() for each in state_dicts)
            result[name] = (total / len(state_dicts)).to(value.dtype)
        else:
            result[name] = value
    return result


if __name__ == "__main__":
    run_command(main)
