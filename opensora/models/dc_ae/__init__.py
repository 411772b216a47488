"""The deep-compression video autoencoder of Open-Sora 2.0."""
