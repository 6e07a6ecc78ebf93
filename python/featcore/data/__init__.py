"""Datasets: generators and loaders, a file a family."""

from featcore.data.dataset import Dataset

__all__ = ["Dataset"]
