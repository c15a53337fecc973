"""The client: a class for programs, and the output of the commands for people."""
