"""Finished work on the disk: stores under keys, files replaced whole, locks."""
