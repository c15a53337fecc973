"""Reads settings from files and flags, and renders the manifests of Jobs from them."""
