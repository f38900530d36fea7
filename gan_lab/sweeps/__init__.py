"""Sweeps: hyperparameter search with W&B sweep files, by W&B or locally by Optuna."""
