"""What networks are told of a single picture's frame rate; a module of its own, without torch behind it."""

IMAGE_FPS = 120.0
"""Frames per second that published networks are told for a single image."""
