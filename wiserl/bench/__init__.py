"""`wiserl bench`: what is claimed about learning, measured again by one command."""
