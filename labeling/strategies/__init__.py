"""One strategy a file; each declares `STRATEGY`."""
