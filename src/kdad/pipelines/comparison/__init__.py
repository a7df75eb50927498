"""Pipelines of plans: cases are planned and run, then what all of them say."""
