"""Figures and tables made from finished results."""
