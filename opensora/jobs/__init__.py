"""Jobs: generation runs in a worker of its own and is followed by a job id."""
