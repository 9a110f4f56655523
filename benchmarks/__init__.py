"""Recordings, protocols and the official metrics of DCASE Challenge Task 2."""
