"""Lightning callbacks that every family has. They run in the order in which experiment.py lists them."""
