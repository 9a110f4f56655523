"""One backbone a file; each declares `BACKBONE`."""
