"""Sparse autoencoders: dictionaries with an encoder that codes a row in one pass."""
