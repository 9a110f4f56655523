"""One scorer a file; each declares `SCORER`."""
