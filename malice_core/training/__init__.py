"""Everything that imports torch: the networks and, with pre-training, their data and losses.

Nothing outside this package, ``pretrain``, ``finetune`` and ``export`` imports it.
"""
