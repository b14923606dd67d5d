"""The sampler: a supervisor, environment workers that act for themselves, and the client."""

PROTOCOL_VERSION = 1
"""Of the contract that this sampler speaks."""
