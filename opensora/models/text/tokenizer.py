"""A tokenizer of our own: sentencepiece unigram with T5's special tokens, in the files that transformers loads."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import sentencepiece


def train_tokenizer(lines: Iterable[str], out_dir: Path, vocab_size: int) -> None:
    """Train on lines of text and write spiece.model, tokenizer.json and tokenizer_config.json.

    Ids are T5's: padding 0, end of text 1, unknown 2, no beginning. Characters never seen fall back to bytes, so that
    every text in any script survives a round trip. The same lines give the same files. The vocabulary may come out
    smaller than ``vocab_size`` when the text has not enough distinct pieces.
    """
    from transformers import T5Tokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "spiece.model").write_bytes(model.getvalue())
    T5Tokenizer.from_pretrained(str(out_dir), extra_ids=0).save_pretrained(str(out_dir))
    path = out_dir / "tokenizer.json"
    fast = json.loads(path.read_text())
    fast["model"]["byte_fallback"] = True
    steps = [{"type": "ByteFallback"}, fast["decoder"], {"type": "Fuse"}]
    fast["decoder"] = {"type": "Sequence", "decoders": steps}
    path.write_text(json.dumps(fast, ensure_ascii=False, indent=1) + "\n")
