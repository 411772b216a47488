"""What is known of every job, in tables beside the engine's: the one place that decides what a job is.

The engine hands out *tickets*; a ticket is a job's id and a number. A worker that was handed a ticket takes the job's
*lease* here, and only the holder of the lease may publish or end the job. Whatever should not run any more gets a new
ticket number or loses its lease: an attempt that is still at it somewhere notices and has no say.
"""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from opensora.jobs.record import CANCELLED, OPEN, PUBLISHED, Record

_META = sa.MetaData()
JOBS = sa.Table(
    "opensora_jobs",
    _META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("batch", sa.Text),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("ticket", sa.Integer, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("lease", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("finished", sa.Float(53)),
)
REPORTS = sa.Table(
    "opensora_reports",
    _META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("previews", sa.Integer, nullable=False),
    sa.Column("preview", sa.LargeBinary),
)
WORKERS = sa.Table(
    "opensora_workers",
    _META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("beat", sa.Float(53), nullable=False),
)
SETTINGS = sa.Table(
    "opensora_settings", _META, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text)
)
HELD = "queue held"

_WAITS = (JOBS.c.outcome.is_(None)) & (JOBS.c.decision == OPEN) & ~JOBS.c.paused
_UNTAKEN = (JOBS.c.outcome.is_(None)) & (JOBS.c.decision == OPEN) & (JOBS.c.lease.is_(None))


class Board:
    """Reads and changes jobs; every change is one statement that applies only to a job that still allows it.

    Args:
        url: of the database, ``sqlite:///…`` or ``postgresql://…``.
    """

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)
        self._lax = self._engine
        if self._engine.dialect.name == "sqlite":
            self._lax = engine_of(url, durable=False)
        _META.create_all(self._engine)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
        self._lax.dispose()

    # jobs, by whoever serves people

    def add(self, records: Sequence[Record]) -> None:
        """Keep new jobs, all or none."""
        rows = [
            {
                "id": r.id,
                "owner": r.owner,
                "batch": r.batch,
                "created": r.created,
                "priority": r.priority,
                "place": r.place,
                "request": json.dumps(r.packed),
                "revision": r.revision,
                "ticket": r.ticket,
                "decision": OPEN,
                "paused": r.paused,
                "pinned": r.pinned,
                "attempts": 0,
            }
            for r in records
        ]
        with self._engine.begin() as db:
            db.execute(sa.insert(JOBS), rows)

    def all(self) -> list[Record]:
        """Every job, the oldest first."""
        with self._engine.connect() as db:
            return [_record(row) for row in db.execute(sa.select(JOBS).order_by(JOBS.c.created)).mappings()]

    def some(self, ids: Iterable[str]) -> list[Record]:
        """The jobs of these ids."""
        wanted = list(ids)
        if not wanted:
            return []
        with self._engine.connect() as db:
            return [_record(row) for row in db.execute(sa.select(JOBS).where(JOBS.c.id.in_(wanted))).mappings()]

    def unfinished(self) -> list[Record]:
        """Jobs that wait, are paused or run."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(JOBS).where(JOBS.c.outcome.is_(None)).order_by(JOBS.c.created)).mappings()
            return [_record(row) for row in rows]

    def cancel(self, job_id: str) -> bool:
        """Decide that a job is cancelled. One that waits has then ended; a running attempt notices."""
        untaken, now = JOBS.c.lease.is_(None), time.time()
        outcome = json.dumps({"state": "cancelled", "error": None, "attempts": 0, "started": None, "finished": now})
        return self._change(
            job_id,
            (JOBS.c.outcome.is_(None)) & (JOBS.c.decision == OPEN),
            decision=CANCELLED,
            outcome=sa.case((untaken, outcome), else_=None),
            finished=sa.case((untaken, now), else_=None),
        )

    def pause(self, job_id: str) -> bool:
        """Let a job wait until it is resumed. A running attempt loses its lease, and does not count."""
        return self._change(
            job_id,
            _WAITS,
            paused=True,
            lease=None,
            ticket=JOBS.c.ticket + 1,
            attempts=JOBS.c.attempts - sa.case((JOBS.c.lease.is_(None), 0), else_=1),
        )

    def resume(self, job_id: str) -> bool:
        """Let a paused job wait for its turn again."""
        return self._change(job_id, (JOBS.c.outcome.is_(None)) & JOBS.c.paused, paused=False, ticket=JOBS.c.ticket + 1)

    def call_back(self, job_id: str, ticket: int, counts: bool) -> bool:
        """Give a job a new ticket: whoever has the one of this number has no say any more.

        Args:
            counts: whether an attempt that this ends counts against the job.
        """
        less = 0 if counts else sa.case((JOBS.c.lease.is_(None), 0), else_=1)
        allowed = (JOBS.c.outcome.is_(None)) & (JOBS.c.ticket == ticket)
        values: dict[str, Any] = {"lease": None, "ticket": ticket + 1, "attempts": JOBS.c.attempts - less}
        return self._change(job_id, allowed if counts else allowed & (JOBS.c.decision == OPEN), **values)

    def move(self, job_id: str, ticket: int, priority: int, place: int) -> bool:
        """Give a job that nobody has begun another place, and with it a new ticket."""
        return self._change(
            job_id, _UNTAKEN & (JOBS.c.ticket == ticket), priority=priority, place=place, ticket=ticket + 1
        )

    def edit(self, job_id: str, packed: dict[str, Any], revision: int) -> bool:
        """Replace the request of a job that nobody has begun."""
        return self._change(job_id, _UNTAKEN, request=json.dumps(packed), revision=revision)

    def pin(self, job_id: str, pinned: bool) -> bool:
        """Whether a job's results are kept whatever happens."""
        return self._change(job_id, sa.true(), pinned=pinned)

    def delete(self, job_id: str) -> None:
        """Forget a job."""
        with self._engine.begin() as db:
            for table in (REPORTS, JOBS):
                db.execute(sa.delete(table).where(table.c.id == job_id))

    # attempts, by workers

    def take(self, job_id: str, ticket: int, worker: str, lease: str) -> Record | None:
        """Begin an attempt at a job; ``None`` if that ticket does not count any more."""
        allowed = (JOBS.c.outcome.is_(None)) & (JOBS.c.ticket == ticket) & ~JOBS.c.paused
        taken = self._change(job_id, allowed, lease=lease, worker=worker, attempts=JOBS.c.attempts + 1)
        return self.some([job_id])[0] if taken else None

    def asked(self, job_id: str, lease: str) -> str | None:
        """What an attempt was asked: ``cancelled``, or ``lost`` if it has no say any more; ``None``: to go on."""
        with self._lax.connect() as db:
            row = db.execute(sa.select(JOBS.c.lease, JOBS.c.decision).where(JOBS.c.id == job_id)).first()
        if row is None or row.lease != lease:
            return LOST
        return CANCELLED if row.decision == CANCELLED else None

    def publish(self, job_id: str, lease: str) -> bool:
        """Decide that a job's files are published; from then on it cannot be cancelled."""
        return self._change(job_id, (JOBS.c.lease == lease) & (JOBS.c.decision == OPEN), decision=PUBLISHED)

    def reopen(self, job_id: str, lease: str) -> bool:
        """Take a decision back that an attempt took which ended before it could act on it."""
        return self._change(job_id, (JOBS.c.lease == lease) & (JOBS.c.decision == PUBLISHED), decision=OPEN)

    def end(self, job_id: str, lease: str, outcome: dict[str, Any]) -> bool:
        """End a job; whether the attempt had the say."""
        ended = self._change(
            job_id,
            (JOBS.c.lease == lease) & JOBS.c.outcome.is_(None),
            outcome=json.dumps(outcome),
            finished=outcome["finished"],
            lease=None,
        )
        with self._lax.begin() as db:
            db.execute(sa.delete(REPORTS).where(REPORTS.c.id == job_id))
        return ended

    def give_back(self, job_id: str, lease: str) -> None:
        """End an attempt that does not count: its worker was told to end."""
        unended = (JOBS.c.lease == lease) & JOBS.c.outcome.is_(None)
        self._change(job_id, unended, lease=None, attempts=JOBS.c.attempts - 1)

    # how far attempts are

    def tell(self, job_id: str, told: dict[str, Any], previews: int, preview: bytes | None) -> None:
        """Keep how far an attempt is; without a new preview the one before stays."""
        values: dict[str, Any] = {"told": json.dumps(told), "previews": previews}
        if preview is not None or not previews:
            values["preview"] = preview
        self._put(REPORTS, {"id": job_id}, values)

    def told(self, ids: Iterable[str]) -> dict[str, tuple[dict[str, Any], int]]:
        """Last report and number of previews of these jobs."""
        wanted = list(ids)
        if not wanted:
            return {}
        query = sa.select(REPORTS.c.id, REPORTS.c.told, REPORTS.c.previews).where(REPORTS.c.id.in_(wanted))
        with self._lax.connect() as db:
            return {row.id: (json.loads(row.told), row.previews) for row in db.execute(query)}

    def preview(self, job_id: str) -> bytes | None:
        """The last preview of a job."""
        with self._lax.connect() as db:
            row = db.execute(sa.select(REPORTS.c.preview).where(REPORTS.c.id == job_id)).first()
        return None if row is None else row.preview

    # workers, and the queue as a whole

    def beat(self, worker: str) -> None:
        """Say that a worker lives."""
        self._put(WORKERS, {"id": worker}, {"beat": self._now()})

    def alive(self, patience: float) -> set[str]:
        """Workers that were heard of within so many seconds."""
        since = self._now() - patience
        with self._lax.connect() as db:
            return set(db.execute(sa.select(WORKERS.c.id).where(WORKERS.c.beat >= since)).scalars())

    def leave(self, worker: str, older: float) -> None:
        """Forget a worker, and those that were not heard of for so many seconds."""
        gone = (WORKERS.c.id == worker) | (WORKERS.c.beat < self._now() - older)
        with self._lax.begin() as db:
            db.execute(sa.delete(WORKERS).where(gone))

    def hold(self, held: bool) -> None:
        """Whether nothing is begun for now."""
        self._put(SETTINGS, {"name": HELD}, {"value": "1" if held else ""}, durable=True)

    def held(self) -> bool:
        """Whether nothing is begun for now."""
        with self._lax.connect() as db:
            return bool(db.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.name == HELD)).scalar())

    def _now(self) -> float:
        """Seconds by the one clock that all machines ask: the database's, or this machine's if there is only one."""
        if self._engine.dialect.name == "sqlite":
            return time.time()
        with self._lax.connect() as db:
            return float(db.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())

    def _change(self, job_id: str, allowed: Any, **values: Any) -> bool:
        with self._engine.begin() as db:
            return db.execute(sa.update(JOBS).where((JOBS.c.id == job_id) & allowed).values(**values)).rowcount == 1

    def _put(self, table: sa.Table, key: dict[str, str], values: dict[str, Any], durable: bool = False) -> None:
        """Replace a row, or add it."""
        ((name, value),) = key.items()
        with (self._engine if durable else self._lax).begin() as db:
            if db.execute(sa.update(table).where(table.c[name] == value).values(**values)).rowcount == 0:
                db.execute(sa.insert(table).values(**key, **values))


LOST = "lost"


def engine_of(url: str, durable: bool = True) -> sa.Engine:
    """Connections to a database.

    Args:
        durable: whether a change has to outlive a power cut; a kill it always does.
    """
    if not url.startswith("sqlite"):
        return sa.create_engine(address(url), pool_pre_ping=True, pool_size=4, max_overflow=8)
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")

    return engine


def address(url: str) -> str:
    """A database's address with the driver that is installed."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _record(row: RowMapping) -> Record:
    return Record(
        id=row["id"],
        owner=row["owner"],
        batch=row["batch"],
        created=row["created"],
        priority=row["priority"],
        place=row["place"],
        packed=json.loads(row["request"]),
        revision=row["revision"],
        ticket=row["ticket"],
        decision=row["decision"],
        paused=row["paused"],
        pinned=row["pinned"],
        attempts=row["attempts"],
        lease=row["lease"],
        worker=row["worker"],
        outcome=None if row["outcome"] is None else json.loads(row["outcome"]),
        finished=row["finished"],
    )
