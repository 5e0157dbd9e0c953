"""Small language models with random weights, and tokenizers of the kinds that matter."""

from pathlib import Path
from typing import Any

TEXTS = [
    "Passage: Ada Lovelace wrote the first program for the Analytical Engine.\nQuestion: who wrote the first program",
    "given the hints, please generate a question for the input passage",
    "Grace Hopper wrote the first compiler and popularised the word bug. hints: compiler bug",
    "The quick brown fox jumps over the lazy dog 0123456789 and runs away, quickly! Why?",
]
SPECIAL = ["<unk>", "<s>", "</s>"]


def tokenizer(kind: str) -> Any:
    """A tokenizer like GPT-2's or SmolLM2's (``bytes``: no BOS), GLM-4's (``glm``: two tokens in front of every text,
    neither called BOS), Llama-2's (``llama``: BOS and a word mark in front of every text) or Gemma's (``gemma``: spaces
    as word marks, and BOS forgotten by the tokenizer)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    of_bytes = kind in ("bytes", "glm")
    alphabet = pre_tokenizers.ByteLevel.alphabet() if of_bytes else []
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    if of_bytes:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    elif kind == "llama":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    if not of_bytes:
        # One word at a time, or whole sentences would become tokens.
        made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    made.train_from_iterator(TEXTS, trainer)
    if not of_bytes:
        made.pre_tokenizer = None
    if kind == "llama":
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    if kind == "glm":
        both = [("<unk>", 0), ("<s>", 1)]
        made.post_processor = processors.TemplateProcessing(single="<unk> <s> $A", special_tokens=both)
    named = {} if kind == "glm" else {"bos_token": "<s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", eos_token="</s>", pad_token="</s>", **named
    )


def save_model(folder: Path, kind: str = "bytes", seed: int = 0, **settings: Any) -> Path:
    """Write a two-layer model with its tokenizer, as ``save_pretrained`` does; return the folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {
        "vocab_size": 512,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    architecture = settings.pop("model_type", "llama")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**config, **settings}))
    model.save_pretrained(folder)
    tokenizer(kind).save_pretrained(folder)
    return folder
