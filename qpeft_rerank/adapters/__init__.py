"""Adapters: what turns the plain reranker into Q-PEFT. See :func:`create_adapter` and :func:`load_adapter`."""
