"""The CLIP text encoder of the small 2.0 checkpoint, with a tokenizer of its own."""

from opensora.training.clip import ClipTrainConfig

config = ClipTrainConfig()
