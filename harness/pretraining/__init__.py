"""Masked reconstruction over a protocol's clips, recorded."""
