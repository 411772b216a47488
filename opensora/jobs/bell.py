"""How a waiting worker of another machine is woken: PostgreSQL's NOTIFY, on a connection that only listens."""

import logging
import threading
import time

import psycopg

from opensora.jobs.store import CHANNEL

log = logging.getLogger(__name__)

FALLBACK = 20.0
"""Seconds after which a worker looks although nobody woke it."""
RETRY = 5.0
"""Seconds until a lost connection is made anew."""


def listen(url: str, awake: threading.Event) -> None:
    """Set the event whenever there is something to do, from a thread of its own."""
    threading.Thread(target=_listen, args=(url, awake), name="opensora-bell", daemon=True).start()


def _listen(url: str, awake: threading.Event) -> None:
    while True:
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                awake.set()  # for what was queued before this connection
                for _ in connection.notifies():
                    awake.set()
        except psycopg.Error as error:
            log.warning("the database does not answer: %s; trying again", error)
        time.sleep(RETRY)
