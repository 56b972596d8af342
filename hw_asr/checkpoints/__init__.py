"""Checkpoint files: writing them atomically, reading them safely, loading their weights."""
