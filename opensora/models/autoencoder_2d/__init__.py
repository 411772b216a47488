"""The image autoencoder of Flux."""
