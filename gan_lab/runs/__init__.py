"""Run folders: the files of a training, and their readers."""
