"""Paths of configs on the command line; the recipes of an installed package are found from any directory."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def config_path(text: str) -> Path:
    """Return the path `text`. `hw_asr/configs/NAME`, if it does not exist here, is the recipe NAME of this package."""
    path = Path(text)
    if not path.exists() and path.parts[:2] == ("hw_asr", "configs"):
        return PACKAGE.parent / path
    return path
