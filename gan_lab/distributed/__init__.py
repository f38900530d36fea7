"""Multi-process training: launcher detection, the DDP strategy, SLURM, and private names of the libraries."""
