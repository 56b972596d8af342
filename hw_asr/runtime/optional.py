"""Imports of packages that only some need: where one is missing, the message names the extra that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hw_asr.errors import UserError


class MissingPackageError(UserError):
    """An optional package is not installed, or cannot be imported."""


@contextmanager
def optional_import(purpose: str, package: str, extra: str) -> Iterator[None]:
    """Wrap the import statements of an optional package.

    Args:
        purpose: what needs it, the subject of the message: "W&B logging".
        package: its name.
        extra: the extra in pyproject.toml that installs it.

    Raises MissingPackageError in place of ImportError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{purpose} needs the package {package}: pip install 'hw_asr[{extra}]' "
            "(in a clone: pip install -r requirements.txt)"
        ) from error
    except (ImportError, OSError) as error:  # OSError: its binaries were built for another torch
        raise MissingPackageError(
            f"{purpose} needs the package {package}, which is installed but cannot be imported: {error}"
        ) from error
