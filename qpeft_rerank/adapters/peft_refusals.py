"""Adapters of PEFT's that suit no pass of this package, by what their settings and files say."""

from pathlib import Path
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel

#: Vectors before the input; keys and values before it; every other supported method sits inside layers.
PROMPT = "PROMPT_TUNING"
VIRTUAL = (PROMPT, "P_TUNING")
PREFIX = "PREFIX_TUNING"
_TASK = "CAUSAL_LM"


def tuner_layers(model: Any) -> list[Any]:
    """The layers that PEFT has put something into."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def refuse_settings(model: LanguageModel, config: Any, name: str) -> None:
    """Refuse methods that need more than a model and a batch, or that change the model's own weights.

    :param config: a ``peft.PeftConfig``.
    :raises InputError: saying which setting it is.
    """
    task = str(getattr(config.task_type, "value", config.task_type or _TASK))
    if task != _TASK:
        raise InputError(
            f"adapter {name}: was made for the task {task}; scores are what a causal language model says of the query, so "
            f"give one of {_TASK}"
        )
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    learns_prompt = config.is_prompt_learning and kind not in (*VIRTUAL, PREFIX)
    # LILY mixes what a batch holds, padding too; SHADOW works in the model's outermost forward, which scoring goes past.
    if learns_prompt or kind in ("ADAPTION_PROMPT", "POLY", "XLORA", "LILY", "SHADOW"):
        raise InputError(f"adapter {name}: {kind} is not supported; LoRA, prefix, prompt and P-tuning are")
    start = str(getattr(config, "init_lora_weights", True))
    changes = {
        "bias": getattr(config, "bias", "none") != "none",
        "init_lora_weights": start.startswith(("pissa", "olora", "corda", "loftq")),
        "kasa_config": getattr(config, "kasa_config", None) is not None,
        # Those of a prompt are never switched off.
        "modules_to_save": config.is_prompt_learning and bool(getattr(config, "modules_to_save", None)),
        "layer_replication": bool(getattr(config, "layer_replication", None)),
    }
    for field in (field for field, given in changes.items() if given):
        raise InputError(
            f"adapter {name}: its {field} changes the model's own weights or layers, which is not supported"
        )
    if getattr(config, "alora_invocation_tokens", None) is not None:
        # They are looked for in ids, which PEFT's own forward pass is given; here layers get embeddings.
        raise InputError(f"adapter {name}: alora_invocation_tokens is not supported; leave it out for plain LoRA")
    layers = model.config.num_hidden_layers
    for field, only in (("num_layers", layers), ("num_transformer_submodules", 1)):
        value = getattr(config, field, None)
        if kind == PREFIX and value not in (None, only):
            raise InputError(f"adapter {name}: its {field} is {value}, this model's {only}; leave it out, or set that")
    # A prompt goes beside whatever is in the layers, which is off while it scores.
    if not config.is_prompt_learning and tuner_layers(model.model):
        raise InputError(f"adapter {name}: the model has a PEFT adapter already; load the model anew")
    virtual = getattr(config, "num_virtual_tokens", None)
    if isinstance(virtual, int) and virtual >= model.max_tokens:
        raise InputError(
            f"adapter {name}: its {virtual} virtual tokens fill the model's context of {model.max_tokens} tokens; "
            "set num_virtual_tokens to fewer"
        )


def refuse_unused(tuned: Any, folder: Path, name: str) -> None:
    """Refuse weights that the configuration has no layer for, which PEFT drops in silence, or puts over the model's own.

    :param tuned: the ``peft.PeftModel`` that was loaded from ``folder``.
    :raises InputError: naming the first one.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        there = set(file.keys())
    # Said by the file: left to itself, PEFT asks the model hub whether embeddings belong to the adapter.
    embeddings = any(".base_layer." in key for key in there)
    unused = sorted(there - set(get_peft_model_state_dict(tuned, save_embedding_layers=embeddings)))
    if own := next((key for key in unused if key in tuned.state_dict()), None):
        # Saved with the adapter where its training added tokens, or seemed to.
        raise InputError(
            f"adapter {name}: its {own} takes the place of the model's own weights, which is not supported; merge both "
            "with PEFT's merge_and_unload, and give the model that comes out with --model"
        )
    if unused:
        raise InputError(
            f"adapter {name}: {len(unused)} of its weights have no place in what its configuration makes "
            f"(first: {unused[0]}); its files do not belong together"
        )
