"""The job of llama.cpp, through the C interface of ``llama-cpp-python``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy

from eval.benchmarks import workloads
from eval.benchmarks.clock import Clock, peak_mb
from qpeft_rerank.errors import InputError
from qpeft_rerank.prompt import Pieces, PromptBuilder, Sequence, load_template


def llama(job: dict[str, Any]) -> dict[str, Any]:
    """Score a workload one pair after another, logits asked of scored positions only, float32 weights.

    :param job: ``folder`` (the model's, for its tokenizer), ``gguf`` (its file), ``workload`` (file), ``threads``.
    :raises InputError: if the library is not there, or the model has no GGUF file.
    """
    clock = Clock()
    if not job["gguf"]:
        raise InputError("llama.cpp reads GGUF, and this model is none")
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(f"llama-cpp-python cannot be imported ({error})") from None
    from transformers import AutoConfig, AutoTokenizer

    pairs = workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))
    config = AutoConfig.from_pretrained(job["folder"])
    pieces = Pieces(AutoTokenizer.from_pretrained(job["folder"]), config.model_type)
    builder = PromptBuilder(load_template("plain"), pieces, config.max_position_embeddings)
    sequences = list(_encode(builder, pairs))
    file = Path(job["workload"]).with_name("float32.gguf")
    dequantize(Path(job["gguf"]), file)
    clock.lap()
    longest = max(map(len, sequences))
    threads = {"n_threads": job["threads"], "n_threads_batch": job["threads"]}
    sizes = dict.fromkeys(("n_ctx", "n_batch", "n_ubatch"), longest)
    # Its cache is float16 unless told otherwise, which moves scores by thousandths.
    cache = dict.fromkeys(("type_k", "type_v"), llama_cpp.GGML_TYPE_F32)
    model = llama_cpp.Llama(str(file), verbose=False, **sizes, **threads, **cache)
    load, loaded = clock.lap(), peak_mb()
    _score(model, sequences[0])
    warm = clock.lap()
    # The others tokenise within their time; here it is done anew for the same reason.
    scores = [_score(model, sequence) for sequence in _encode(builder, pairs)]
    took = clock.lap()
    return {
        "load": load,
        "warm": warm,
        "score": took,
        "scores": scores,
        "pairs": len(pairs),
        "model_mb": file.stat().st_size / 1e6,
        "loaded_mb": loaded,
        "peak_mb": peak_mb(),
    }


def dequantize(source: Path, target: Path) -> None:
    """Write a GGUF file's model with float32 weights; nothing if it is there."""
    if target.is_file():
        return
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize as to_float32

    reader = GGUFReader(str(source))
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(str(target), architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = numpy.array(to_float32(tensor.data, tensor.tensor_type), dtype=numpy.float32)
        writer.add_tensor(tensor.name, values, raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _encode(builder: PromptBuilder, pairs: Iterable[workloads.Pair]) -> Iterable[Sequence]:
    for pair in pairs:
        (query,), (passage,) = builder.encode_queries([pair.query]), builder.encode_passages([(pair.title, pair.text)])
        yield builder.build(query, passage)


def _score(model: Any, sequence: Sequence) -> float:
    """Summed log-probability of the target, in nats."""
    import llama_cpp

    context = model._ctx.ctx
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    ids, count = sequence.ids, len(sequence.target)
    first = len(ids) - count - 1
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    try:
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = first <= place < len(ids) - 1
        if llama_cpp.llama_decode(context, batch):
            raise InputError("llama.cpp could not decode a pair")
        total = 0.0
        for place in range(first, len(ids) - 1):
            row = llama_cpp.llama_get_logits_ith(context, place)
            logits = numpy.ctypeslib.as_array(row, (model.n_vocab(),))
            top = logits.max()
            total += float(logits[ids[place + 1]] - top - numpy.log(numpy.exp(logits - top).sum(dtype=numpy.float64)))
        return total
    finally:
        llama_cpp.llama_batch_free(batch)
