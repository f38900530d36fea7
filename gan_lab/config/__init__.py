"""Experiment configuration: its dataclasses, YAML files and command-line overrides."""
