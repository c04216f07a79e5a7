"""Datasets with fixed splits, the declared preprocessing chain, and tf.data pipelines. Importing it imports no TensorFlow."""

from tinykit.data.dataset import Dataset, Split
from tinykit.data.pipeline import batches
from tinykit.data.preprocess import Chain
from tinykit.data.registry import dataset_names, load_dataset

__all__ = ["Chain", "Dataset", "Split", "batches", "dataset_names", "load_dataset"]
