"""Strangers at the door: attacks on a real server, mutated requests, and what honest clients see meanwhile."""
