"""Networks: text encoders, autoencoders and denoisers."""
