"""Faults on purpose: real servers and workers, clients that write a history, and a judge that reads nothing else."""
