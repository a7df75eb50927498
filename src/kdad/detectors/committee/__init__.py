"""Several detectors of one source that judge together."""
