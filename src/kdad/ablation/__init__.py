"""Ablations: variants of one system on shared activations, and what their results say."""
