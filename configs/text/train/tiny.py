"""The bundled text encoder: a small T5 with a tokenizer of its own."""

from opensora.training.text import TextTrainConfig

config = TextTrainConfig()
