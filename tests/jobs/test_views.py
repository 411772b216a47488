"""What is shown of a job that has ended knows what it says, also after it lay in the database."""

import json
from pathlib import Path

from opensora.jobs.attempt import Reports, _ended, _noted
from opensora.jobs.places import Places
from opensora.jobs.queue import JobState, JobView
from opensora.jobs.views import _ended as ended
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import Sentence, say

VIEW = JobView("job", "me", GenerationRequest("a ball"))
REPORTS = Reports(board=None, job="job", attempt=2)  # type: ignore[arg-type]  # nothing is reported


def test_errors_and_notes_come_back_as_sentences(tmp_path: Path) -> None:
    failed = json.loads(json.dumps(_ended(JobState.FAILED, REPORTS, say("failed.worker", most=3))))
    view = ended(VIEW, failed, Places(tmp_path))
    assert isinstance(view.error, Sentence) and view.error.values == {"most": 3}
    done = json.loads(json.dumps(_ended(JobState.DONE, REPORTS) | _noted([say("made.again", attempt=2), "plain"])))
    view = ended(VIEW, done, Places(tmp_path))
    assert view.error is None and view.notes == (say("made.again", attempt=2), "plain")
    assert isinstance(view.notes[0], Sentence) and not isinstance(view.notes[1], Sentence)


def test_jobs_of_versions_that_kept_the_english_alone_are_shown(tmp_path: Path) -> None:
    old = {"state": "failed", "error": "It broke.", "attempts": 1, "started": 1.0, "finished": 2.0, "notes": ["a note"]}
    view = ended(VIEW, old, Places(tmp_path))
    assert (view.error, view.notes) == ("It broke.", ("a note",))
