"""The client: for programs, and the commands of it for people."""
