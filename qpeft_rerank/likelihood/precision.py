"""Precisions by name, for those who must not wait for torch."""

#: The dtype that a model's own layers compute in. ``mixed`` multiplies in bfloat16 and keeps everything else, logits
#: included, in float32; ``int8`` is bfloat16 with the layers' weights in 8 bits. Where a :class:`Body` takes their place,
#: states between layers are float32 in all of them; prefix tuning, and sequences beyond an attention window, are read by
#: the model's own.
STATES = {
    "float32": "float32",
    "mixed": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "int8": "bfloat16",
}
#: Largest difference, in nats a token, that rounding makes between two ways to the same short text's scores. Half
#: precision rounds away more, but a way that lets a query see another would find its words much likelier still.
ROUNDING = {"float32": 1e-4, "mixed": 0.1, "float16": 0.1, "bfloat16": 0.5, "int8": 0.5}
