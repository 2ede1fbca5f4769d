"""Training: one file a method (loss + LightningModule), data modules, checkpoints."""
