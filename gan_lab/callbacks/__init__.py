"""What happens around the steps, for every family alike. They run in the order in which experiment.py lists them."""
