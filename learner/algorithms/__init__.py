"""Algorithms: one family, one file, and what they share."""
