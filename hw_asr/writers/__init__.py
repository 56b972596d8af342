"""Writers of metrics. Importing this package registers them; client libraries are imported when a writer is made."""

from hw_asr.writers import null, tensorboard, wandb

__all__ = ["null", "tensorboard", "wandb"]
