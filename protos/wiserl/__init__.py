"""Holds the versions of the contract."""
