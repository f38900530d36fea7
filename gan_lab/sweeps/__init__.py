"""Sweeps: many trials of one experiment. The files are W&B's; without W&B the same file runs on Optuna."""
