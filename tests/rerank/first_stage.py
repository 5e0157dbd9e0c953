"""The run that the reranking command's tests start from."""

RUN = """10 Q0 42 1 9.5 bm25
10 Q0 30 2 9.0 bm25
10 Q0 5 3 3.25 bm25
10 Q0 41 4 1.0 bm25
9 Q0 7 1 4.0 bm25
9 Q0 40 2 2.0 bm25
"""
