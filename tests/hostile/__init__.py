"""Hostile and odd inputs, border by border: what must be answered."""
