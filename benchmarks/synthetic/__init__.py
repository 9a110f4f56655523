"""Generated recordings in a year's own layout."""
