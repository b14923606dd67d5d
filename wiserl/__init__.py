"""The front door: the `wiserl` command and the Python API."""
