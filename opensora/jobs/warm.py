"""Networks that are loaded before anybody asks for a clip."""

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opensora.distributed.group import Group

log = logging.getLogger(__name__)


def warm_up(model: str, group: "Group | None" = None) -> None:
    """Load a bundled model, while the first visitor is still typing; one that is not bundled waits for its first clip.

    Args:
        group: processes that make every clip together, all of which call this; ``None`` for this one alone.
    """
    from opensora.models import zoo
    from opensora.pipelines.build import build_models

    preset = zoo.PRESETS[model]
    if not preset.bundled or not zoo.status(preset).installed:
        return
    try:
        build_models(preset.modes[0], preset.resolutions[0], enable_optimization=True, model=model, group=group)
    except ValueError as error:  # the page says it when somebody generates
        log.warning("%s could not be loaded: %s", model, error)
