"""STFPM: a student of the source's own architecture learns its features of normal images (Wang et al. 2021)."""
