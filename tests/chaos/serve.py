"""A server process for the chaos tests: queues the prompts that it is given, prints their ids, and goes on serving."""

import sys
import time
from pathlib import Path

from opensora.jobs.durable import DurableQueue, Limits
from opensora.pipelines.request import GenerationRequest


def main() -> None:
    queue = DurableQueue(Path(sys.argv[1]), "fake_jobs:generate", limits=Limits(1000, 1000, attempts=1000))
    for prompt in sys.argv[2:]:
        print(queue.submit(GenerationRequest(prompt=prompt), "me"), flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
