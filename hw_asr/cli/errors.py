"""The error of a command line whose options do not fit together."""

from hw_asr.errors import UserError


class UsageError(UserError):
    """Options that are missing or exclude each other; the command prints its usage and exits with 2."""
