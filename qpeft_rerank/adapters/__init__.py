"""Adapters: what turns the plain reranker into Q-PEFT. See :func:`.registry.create_adapter` and :func:`.store.load_adapter`."""
