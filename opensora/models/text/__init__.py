"""Text encoders, captions and prompts."""
