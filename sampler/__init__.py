"""The sampler: a supervisor, environment workers that act for themselves, and the client."""
