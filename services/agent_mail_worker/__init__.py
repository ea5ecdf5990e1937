"""Background work: the jobs that there are, and the process that does them in a cluster."""
