"""One year a file; each declares `DATASET`."""
