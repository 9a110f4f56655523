"""Losses of fine-tuning, one a file; each declares `LOSS`."""
