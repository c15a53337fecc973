"""Faults on purpose: real servers and workers, clients that keep a history, and a judge that reads nothing else."""
