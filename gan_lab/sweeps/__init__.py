"""Sweeps: many trials of one experiment. Sweep files are W&B's; without W&B the same file runs on Optuna."""
