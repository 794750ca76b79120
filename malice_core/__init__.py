"""MALICE: embeddings of Sentinel-1 and Sentinel-2 time series.

The package has an inference side (everything here, torch-free) and a training side
(``training/`` and the command lines ``pretrain``, ``finetune`` and ``export``, which import torch).
"""

__version__ = "0.1.0"

#: Version of the command-line contract (options, json events, exit codes) that the QGIS plugin checks.
CONTRACT = 1
