"""Run folders: what a training leaves on the disk, and what is read from it."""
