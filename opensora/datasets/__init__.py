"""Data: the captioned synthetic world, textures, aspect-ratio buckets, video and image files."""
