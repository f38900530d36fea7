"""Multi-process training: launcher detection, DDP strategy, SLURM, and private Lightning APIs."""
