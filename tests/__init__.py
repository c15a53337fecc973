"""The tests, and the helpers that run a real server for them and for the benchmarks."""
