"""Reverse distillation: a decoder gives the source's features back from a bottleneck (Deng and Li 2022)."""
