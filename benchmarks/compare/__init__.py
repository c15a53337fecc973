"""``python -m benchmarks.compare``: tierserve and other model servers with the same decoder and network inside."""
