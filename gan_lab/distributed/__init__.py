"""Several processes: the launcher, the strategy, SLURM, and the private names of the libraries."""
