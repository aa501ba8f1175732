"""An embedder and a cross-encoder of one layer with random weights, laid out as the real ones are."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

_WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "search",
    "_",
    "query",
    "document",
    ":",
    "merge",
    "dicts",
    "title",
]
_CONFIG = BertConfig(
    vocab_size=len(_WORDS),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    num_labels=1,
)


def _tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def save_tiny_embedder(directory: Path) -> None:
    """Write an embedder of 16 dimensions."""
    base = directory.with_name(f"{directory.name}-base")
    BertModel(_CONFIG).save_pretrained(base)
    _tokenizer().save_pretrained(base)
    SentenceTransformer(modules=[Transformer(str(base)), Pooling(16)], device="cpu").save(str(directory))


def save_tiny_reranker(directory: Path) -> None:
    """Write a cross-encoder that gives one number for a pair of texts."""
    BertForSequenceClassification(_CONFIG).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
