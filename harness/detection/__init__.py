"""New clips, scored as a finished trial scored its own."""
