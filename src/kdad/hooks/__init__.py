"""Kedro hooks: what a run says, logs, and ends with."""
