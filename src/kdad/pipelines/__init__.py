"""Wiring only: a folder a pipeline, each with its nodes."""
