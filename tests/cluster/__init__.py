"""A real two-node Kubernetes on one Linux machine, for tests: ``python -m tests.cluster --help``."""
