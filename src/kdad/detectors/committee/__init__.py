"""Several detectors of one source that predict together."""
