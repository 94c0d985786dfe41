"""The training engine: config, plan, loop, losses, metrics, checkpoints."""
