"""Load tests: agent teams for Locust, and the ledger, which counts what a cluster lost while its parts were failing."""
