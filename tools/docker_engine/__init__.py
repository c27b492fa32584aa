"""A Docker engine for the tests: the machine's own, or one that is set up and stopped again."""
