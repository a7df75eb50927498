"""Comparing systems: cases of a plan, run once and kept, and what their results say."""
