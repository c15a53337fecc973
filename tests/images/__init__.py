"""Tests that build the images, unpack them and run them."""
