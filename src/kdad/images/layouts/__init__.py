"""How people lay out image sets: from the files below a folder, or a list of them, to images with kinds and masks."""
