"""The causal video autoencoder of HunyuanVideo, which Open-Sora 2.0 uses."""
