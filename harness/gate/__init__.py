"""Whether a candidate is worse than a recorded baseline."""
