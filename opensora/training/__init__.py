"""Training recipes: autoencoder, text encoder and denoiser, each resumable and reproducible from its config."""
