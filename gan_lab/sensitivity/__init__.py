"""Sensitivity of metrics: the smallest distortions of real images that each score detects."""
