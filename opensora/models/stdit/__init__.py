"""Denoisers with separate spatial and temporal blocks: Open-Sora 1.2 and 1.3."""
