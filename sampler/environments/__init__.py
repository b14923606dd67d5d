"""Environments: names to copies of them, and how their rows are stepped."""
