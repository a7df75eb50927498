"""Sources with their critical points, and the cloners shaped for them."""
