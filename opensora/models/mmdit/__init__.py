"""Denoiser that attends to text and video in one sequence: Open-Sora 2.0, and FLUX.1 for its first pictures."""
