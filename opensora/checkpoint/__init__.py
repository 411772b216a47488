"""Weights: finding, downloading and checking them, and loading them strictly."""
