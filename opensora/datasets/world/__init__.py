"""A procedural world of captioned clips: seeded, fast, any size."""
