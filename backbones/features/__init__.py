"""Waveforms to log-mel features, and the masks that hide parts of them."""
