"""Tests, and what runs a real server for them and for the benchmarks."""
