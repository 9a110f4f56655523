"""The command line: it reads options, calls one verb of `harness.verbs`, and prints the result."""
