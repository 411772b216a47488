"""Tokenizers of our own in the files that transformers loads: T5's sentencepiece unigram, CLIP's byte-level BPE."""

import io
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
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
    fast = json.loads(path.read_text(encoding="utf-8"))
    fast["model"]["byte_fallback"] = True
    steps = [{"type": "ByteFallback"}, fast["decoder"], {"type": "Fuse"}]
    fast["decoder"] = {"type": "Sequence", "decoders": steps}
    path.write_text(json.dumps(fast, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def train_clip_tokenizer(lines: Iterable[str], out_dir: Path, vocab_size: int) -> int:
    """Train on lines of text and write vocab.json, merges.txt, tokenizer.json and tokenizer_config.json.

    Bytes as letters, an end-of-word mark, and as the last two ids the beginning and the end of a text, like the
    published one. The same lines give the same files.

    Args:
        lines: what the words are learnt from.
        out_dir: made if it is not there.
        vocab_size: at least 514 (every byte within a word and at its end, beginning and end); it may come out smaller
            when the text has not enough distinct pieces.

    Returns:
        How many tokens there are; the encoder's ``vocab_size``.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    single = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = _merges(lines, max(0, vocab_size - len(single) - 2))
    pieces = [*single, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    out_dir.mkdir(parents=True, exist_ok=True)
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    (out_dir / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    written = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (out_dir / "merges.txt").write_text("\n".join(written) + "\n", encoding="utf-8")
    CLIPTokenizer.from_pretrained(str(out_dir)).save_pretrained(str(out_dir))
    return len(ids)


def _merges(lines: Iterable[str], most: int) -> list[tuple[str, str]]:
    """Pairs in the order in which byte-pair encoding joins them, for ``most`` new pieces: the most frequent pair first,
    of equally frequent ones the first by name.

    The library's own trainer breaks ties in another order every time.
    """
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    counts = Counter(word for line in lines for word, _ in split.pre_tokenize_str(line.lower()))
    words = {word: [*word[:-1], f"{word[-1]}</w>"] for word in counts}
    merges: list[tuple[str, str]] = []
    joined: set[str] = set()  # two pairs can make the same piece
    while len(joined) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        joined.add("".join(best))
        merges.append(best)
        words = {word: _join(pieces, best) for word, pieces in words.items()}
    return merges


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """The pieces of a word, with every occurrence of a pair made one piece."""
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result
