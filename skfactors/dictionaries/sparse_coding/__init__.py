"""Sparse coding: the objective, ways to minimise it, and the estimator that learns a dictionary with it."""
