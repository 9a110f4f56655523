"""Released weights: which file is which, how one is brought from the hub, and what a file is."""
