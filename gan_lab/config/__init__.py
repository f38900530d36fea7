"""Experiment configuration: the dataclasses, and how YAML files and command-line words fill them."""
