"""The typed HTTP client, used by the command line, the load tests and the end-to-end tests alike."""
