"""One file becomes one image: decoding, value range, one size."""
