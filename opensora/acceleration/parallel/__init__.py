"""One request over several processes: rows of a batch, tokens of a sequence, tiles of an autoencoder."""
