"""One training loop, its checkpoints and its seeds."""
