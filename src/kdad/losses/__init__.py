"""Loss functions, one file per paper's loss."""
