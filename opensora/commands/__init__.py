"""Commands of ``python -m opensora`` besides making clips; each file registers its own."""
