"""The Open-Sora 1.2 video autoencoder."""
