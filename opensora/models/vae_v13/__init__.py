"""The Open-Sora 1.3 video autoencoder."""
