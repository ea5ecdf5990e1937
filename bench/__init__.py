"""`make bench`: requests per second, latencies and processor time of a server of its own, beside a constant answer."""
