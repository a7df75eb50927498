"""Kedro datasets of the project, and what they hold."""
