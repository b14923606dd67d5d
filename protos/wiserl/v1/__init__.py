"""Version 1 of the contract: the protos and the stubs generated from them."""
