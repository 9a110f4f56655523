"""The official metrics, and score files in the official format."""
