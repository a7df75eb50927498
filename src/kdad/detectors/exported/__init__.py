"""A detector as one file of another runtime: how it is written, checked, read again, and predicts."""
