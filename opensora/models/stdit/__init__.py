"""Denoisers with separate spatial and temporal blocks: Open-Sora 1.3."""
