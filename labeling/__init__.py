"""Pseudo-labels for clips whose machine attributes are withheld."""
