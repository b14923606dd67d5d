"""The verbs of the `wiserl` command, one module each: `run(arguments) -> exit code`."""
