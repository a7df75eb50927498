"""How well scores rank images, how well maps rank pixels and cover regions, and where the threshold goes."""
