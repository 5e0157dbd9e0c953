"""From an adapter's name to a student that is ready to train."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import adapter_kinds, create_adapter, find_kind
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.out_of_memory import fitting_adapter
from qpeft_rerank.likelihood.scorer import encode_pairs
from qpeft_rerank.prompt.builder import EncodedQuery
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.training.examples import Example
from qpeft_rerank.training.sampler import Sampling, negatives_of
from qpeft_rerank.training.student import Student

PEFT_METHODS = ("lora", "prefix-tuning", "p-tuning", "p-tuning-v2", "prompt-tuning")
VIRTUAL_TOKENS = 20
LORA_RANK = 8
# Examples tokenised together when the ids that training may touch are gathered.
_CHUNK = 256


def check_adapter(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown adapter, and options that one of this package does not have; no model is needed.

    :raises InputError: saying what there is.
    """
    if name in PEFT_METHODS:
        return
    if name not in adapter_kinds():
        known = ", ".join([*adapter_kinds(), *PEFT_METHODS])
        raise InputError(f"--adapter {name}: give one of {known}")
    find_kind(name).config.from_dict(dict(options), f"--adapter {name}")  # names of fields, and none of ours


def make_student(
    name: str,
    model: LanguageModel,
    template: Template,
    preset: str,
    options: Mapping[str, Any],
    examples: Sequence[Example],
    seed: int,
    max_passage_tokens: int | None = None,
    sampling: Sampling | None = None,
    quiet: bool = False,
) -> Student:
    """Put an untrained adapter on a model and make room for what the examples will train.

    :param name: a Q-PEFT adapter's name or one of :data:`PEFT_METHODS`.
    :param options: fields of the adapter's configuration that differ from the preset.
    :param examples: all that the training may draw from, as ``sampling`` says (None: as by default).
    :param quiet: show no progress.
    :raises InputError: for an unknown name or option, or if the adapter does not suit the model or fit beside it.
    """
    check_adapter(name, options)
    with fitting_adapter(f"--adapter {name}", model.device):
        if name in PEFT_METHODS:
            adapter: Any = PeftAdapter.create(model, _peft_config(name, model, options), seed)
        else:
            adapter = create_adapter(name, model, template, preset, seed=seed, **options)
        student = Student(model, template, adapter, {}, (adapter,), max_passage_tokens)
        adapter.cover(_touched(student, adapter, examples, sampling or Sampling(), quiet))
    # By the module's names, which are short and those of checkpoints.
    parts = {id(part.parameter): part for part in adapter.trainable_parts().values()}
    student.parts.update((key, parts[id(own)]) for key, own in adapter.named_parameters() if own.requires_grad)
    if not student.trained:
        raise InputError(f"--adapter {name} with these options has nothing to train")
    if coarse := next((part.parameter.dtype for part in parts.values() if part.parameter.dtype != torch.float32), None):
        # Copies of the model's own layers, which compute in its dtype.
        raise InputError(
            f"--adapter {name}: what modules_to_save names would learn in {str(coarse).removeprefix('torch.')}, too coarse "
            "for the steps of a training; take --dtype float32 or mixed, or leave it out"
        )
    return student


def _touched(student: Student, adapter: Any, examples: Sequence[Example], sampling: Sampling, quiet: bool) -> set[int]:
    """Token ids whose hint embeddings the examples may train; every question is seen to fit into the context."""
    from tqdm import tqdm

    ids: set[int] = set()
    # Whether a question fits does not depend on the passage, of which the end is cut.
    read = sampling if getattr(adapter, "reads_passages", False) else None
    shortest = _shortest(student, examples) if read and sampling.in_batch else None
    with tqdm(total=len(examples), unit="q", desc="tokenising", delay=5, disable=quiet) as bar:
        for chunk in _chunks(examples):
            pairs = [pair for example in chunk for pair in _pairs(example, read)]
            try:
                ids |= adapter.touched(encode_pairs(student.builder, pairs, adapter))
            except InputError:
                _name_refused(student, adapter, chunk, read)
                raise
            if shortest is not None:
                # Beside another question less of a passage may be cut off; without hints, no more than this is read.
                texts = student.builder.encode_passages(dict.fromkeys((title, text) for _, title, text in pairs))
                ids |= adapter.touched(student.builder.build(shortest, passage, 0) for passage in texts)
            bar.update(len(chunk))
    return ids


def _pairs(example: Example, sampling: Sampling | None) -> list[tuple[str, str, str]]:
    """A question with all passages that it may be trained on, or, without a sampling, with one."""
    passages = (*example.positives, *negatives_of(example, sampling)) if sampling else example.positives[:1]
    return [(example.query, passage.title, passage.text) for passage in passages]


def _name_refused(student: Student, adapter: Any, examples: Sequence[Example], sampling: Sampling | None) -> None:
    """Encode one by one, and say which question cannot be, for want of room in the context."""
    for example in examples:
        try:
            encode_pairs(student.builder, _pairs(example, sampling), adapter)
        except InputError as error:
            virtual = getattr(adapter, "virtual_tokens", 0)
            fewer = f", or set num_virtual_tokens below {virtual}" if virtual else ""
            k = getattr(getattr(adapter, "config", None), "k", 0)
            fewer = f", or give a smaller --k than {k}" if k else fewer
            raise InputError(f"{example.where or f'question {example.qid}'}: {error}{fewer}") from None


def _shortest(student: Student, examples: Sequence[Example]) -> EncodedQuery:
    """The question of fewest tokens."""
    encoded = (student.builder.encode_queries(example.query for example in chunk) for chunk in _chunks(examples))
    return min((query for chunk in encoded for query in chunk), key=lambda query: len(query.target))


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    return (examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK))


def _peft_config(name: str, model: LanguageModel, options: Mapping[str, Any]) -> Any:
    import peft

    values = {"task_type": "CAUSAL_LM"} | _peft_defaults(name, model) | dict(options)
    saved = values.get("modules_to_save")
    if isinstance(saved, str):  # which PEFT takes for a list of letters, that names of modules end with
        saved = values["modules_to_save"] = [saved]
    names = [module for module, _ in model.model.named_modules()]
    listed = saved if isinstance(saved, list) else []  # anything else is PEFT's to refuse
    if unknown := next((one for one in listed if not any(module.endswith(str(one)) for module in names)), None):
        raise InputError(f"--adapter {name}: modules_to_save names {unknown}, which the model does not have")
    kinds = {
        "lora": peft.LoraConfig,
        "prefix-tuning": peft.PrefixTuningConfig,
        "p-tuning": peft.PromptEncoderConfig,
        "p-tuning-v2": peft.PrefixTuningConfig,
        "prompt-tuning": peft.PromptTuningConfig,
    }
    try:
        return kinds[name](**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"--adapter {name}: {str(error).splitlines()[0]}") from None


def _peft_defaults(name: str, model: LanguageModel) -> dict[str, Any]:
    if name == "lora":
        return {"r": LORA_RANK, "lora_alpha": 2 * LORA_RANK, "target_modules": "all-linear"}
    if name == "p-tuning":
        return {"num_virtual_tokens": VIRTUAL_TOKENS, "encoder_hidden_size": model.embedding.weight.shape[1]}
    if name == "p-tuning-v2":
        # PEFT's name for it: a prefix in every layer, made by a small network while it is trained.
        width = model.embedding.weight.shape[1]
        return {"num_virtual_tokens": VIRTUAL_TOKENS, "prefix_projection": True, "encoder_hidden_size": width}
    if name == "prompt-tuning":
        # Started from words: PEFT's random start has numbers far larger than embeddings.
        return {
            "num_virtual_tokens": VIRTUAL_TOKENS,
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": "Please write a question that the following passage answers.",
            "tokenizer_name_or_path": str(model.source.folder),
        }
    return {"num_virtual_tokens": VIRTUAL_TOKENS}
