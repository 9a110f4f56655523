"""Ray runs a study's trials."""
