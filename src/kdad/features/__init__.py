"""A frozen network over an image set, once."""
