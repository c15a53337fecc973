"""From files and flags to settings, and from settings to the manifest of a Job."""
