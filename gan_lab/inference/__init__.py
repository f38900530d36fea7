"""Use a finished run: sample, translate, reconstruct, and probe its features."""
