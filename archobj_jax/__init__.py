"""Pretraining in JAX: any architecture with any objective, on any SeqIO task, at any size."""

__version__ = "0.1.0"
