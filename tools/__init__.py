"""What contributors and CI run by hand."""
