"""From a request to a file: request, models, the video pipeline, and what it will cost."""
