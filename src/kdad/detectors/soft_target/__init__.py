"""Soft targets: a student learns a teacher's softened class probabilities (Hinton et al. 2015)."""
