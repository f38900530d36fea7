"""Scores of generated images, each with the protocol it was measured by."""
