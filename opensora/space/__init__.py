"""Running as a Hugging Face Space: where files may stay, what visitors are told, and GPUs that come by the minute."""
