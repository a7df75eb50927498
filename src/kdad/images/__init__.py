"""Image sets: readers, decoding, splits, statistics, patches and the drawn defects of the default set."""
