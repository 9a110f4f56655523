"""Published results as tables."""
