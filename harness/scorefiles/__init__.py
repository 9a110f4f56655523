"""Score files in the challenge's format: measured, recorded, written."""
