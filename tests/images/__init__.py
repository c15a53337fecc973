"""The images, built, unpacked and run."""
