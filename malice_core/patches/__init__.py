"""The dataset of training patches: its format (``store``), its split by location (``splits``), how it is made
(``plan``, ``build``) and what is in it (``inspect``). No torch here: datasets are built where nothing is trained.
"""
