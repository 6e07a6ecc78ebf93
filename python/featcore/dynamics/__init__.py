"""Dynamics: a data set and a network go in, a run comes out."""
