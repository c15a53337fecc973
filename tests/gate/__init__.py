"""The whole check: all suites run one after another, with their output in files and a summary at the end."""
