"""Corpora, the token cache, rows cut from it, and batches addressed by step."""
