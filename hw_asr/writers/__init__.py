"""What a run reports to; importing this package makes the names known, their client libraries load when first used."""

from hw_asr.writers import null, tensorboard, wandb

__all__ = ["null", "tensorboard", "wandb"]
