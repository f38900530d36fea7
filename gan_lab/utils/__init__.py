"""General helpers: files, errors, terminals, processes, network."""
