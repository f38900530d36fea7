"""Lightning callbacks for all families; ``builder.build`` defines their order."""
