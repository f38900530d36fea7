"""What a user can say of an experiment: the dataclasses, and how YAML files and words fill them."""
