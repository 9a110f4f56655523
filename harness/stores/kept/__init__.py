"""Encoders that trials keep, as MLflow models."""
