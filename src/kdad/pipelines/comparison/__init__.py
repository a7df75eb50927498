"""Pipelines of plans: every case a box, then what all of them say."""
