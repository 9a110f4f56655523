"""Folders of recordings to a clip table and packed audio."""
