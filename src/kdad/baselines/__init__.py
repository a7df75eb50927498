"""What the papers compare with, by libraries of the field, on the same splits and metrics."""
