"""Pydantic models of every parameter block, one file per block."""
