"""Uninformed Students: an ensemble regresses a patch teacher's descriptors of normal images (Bergmann et al. 2020)."""
