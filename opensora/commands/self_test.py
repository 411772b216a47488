"""``python -m opensora models --self-test NAME``: a known clip, compared with its record, or recorded."""

import typer

from opensora.pipelines.terminal import FAILED


def run(name: str, record: bool) -> None:
    """Make the clip of a model and say what it is like.

    Args:
        name: of the model.
        record: keep the clip as the record of a bundled model instead of comparing it.

    Raises:
        PresetError: no such model, or it has no record to be kept.
        RequestError, GenerationError: the clip cannot be made.
    """
    from opensora.models import zoo
    from opensora.pipelines import self_test

    preset = zoo.PRESETS.get(name) or zoo.find(name)
    place = self_test.record_place(preset)
    if record and place is None:
        raise zoo.PresetError(
            f"Got --record for {preset.name}, which does not come with the repository, so no record of it is kept. "
            "Leave --record out: the first test on a machine is kept for the later ones."
        )
    zoo.require_installed(preset)
    typer.echo("Making a short clip …", err=True)
    made = self_test.run(preset.name)
    if record and place is not None:
        self_test.save(made, place)
        typer.echo(f"Recorded: {place} ({place.stat().st_size // 1000} kB), made on {made.made_on}.")
        return
    verdict = self_test.examine(preset, made)
    typer.echo(verdict.text().replace("NAME", preset.name))
    if not verdict.passed:
        raise typer.Exit(FAILED)
