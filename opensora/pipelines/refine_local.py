"""A local language model of transformers as the writer of prompts; loaded when asked, released after the answer."""

import logging
import threading
from pathlib import Path
from typing import Any

from opensora.pipelines.errors import RefineError
from opensora.sentences import say

log = logging.getLogger(__name__)

MAX_TOKENS = 320
"""Of an answer."""
MAX_SECONDS = 120.0
"""Of writing an answer."""

_ALONE = threading.Lock()
"""Held while a model is in memory, so that there is never a second one."""


def ask(folder: Path, system: str, texts: list[str]) -> list[str]:
    """The answer to each text, always the same for the same model.

    The networks of a clip need the memory more, so nothing is kept. Code that comes with a model is not run, and
    pickled weights are not read.

    Args:
        folder: as transformers saves a causal language model with its tokenizer, weights in safetensors.

    Raises:
        RefineError: there is no model, it cannot be loaded, or it failed; the message names no path.
    """
    if not (folder / "config.json").is_file():
        raise RefineError(say("refine.folder"))
    with _ALONE:
        try:
            model, tokenizer = _load(folder)
            return [_answer(model, tokenizer, system, text) for text in texts]
        except Exception as error:  # files of others, read and run by transformers, fail in every way
            log.debug("the local language model failed", exc_info=True)
            kind = type(error).__name__
            raise RefineError(say("refine.local", kind=kind)) from None


def _load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, on the best device of this machine."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from opensora.pipelines.plan import choose_device

    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **own)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="auto", **own)
    return model.to(choose_device(None)).eval(), tokenizer


def _answer(model: Any, tokenizer: Any, system: str, text: str) -> str:
    import torch

    told = f"{system}\n\nThe description:\n{text}"  # one message: some templates know no system's
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": told}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        inputs = tokenizer(f"{told}\n\nThe answer:\n", return_tensors="pt")
    read = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        made = model.generate(**read, max_new_tokens=MAX_TOKENS, max_time=MAX_SECONDS, do_sample=False)
    answer: str = tokenizer.decode(made[0, read["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer
