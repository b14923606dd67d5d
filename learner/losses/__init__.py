"""Returns, policy losses and value losses as pure functions."""
