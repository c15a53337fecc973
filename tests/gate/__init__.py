"""The whole check: every suite one after another, their output in files, and a summary of what failed."""
