"""The official conformance suite against two workers of the endpoint."""
