"""Datasets: generators and loaders, a file a family."""

from featcore.data.corruption import corrupt, feature_growth
from featcore.data.dataset import Dataset
from featcore.data.digits import digits
from featcore.data.idx import idx, read_idx
from featcore.data.index_models import link, multi_index, single_index
from featcore.data.orthogonal import fan, orthogonally_separable, two_points
from featcore.data.split import train_test_split
from featcore.data.xor import xor_clusters
from featcore.data.xor_span import xor_clusters_in_span

__all__ = [
    "Dataset",
    "corrupt",
    "digits",
    "fan",
    "feature_growth",
    "idx",
    "link",
    "multi_index",
    "orthogonally_separable",
    "read_idx",
    "single_index",
    "train_test_split",
    "two_points",
    "xor_clusters",
    "xor_clusters_in_span",
]
