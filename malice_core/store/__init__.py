"""Writing models: weights out of published files, graphs and card into a store, and the proof that they agree.

``malice_core.models`` is the command line and what the engine sees of it.
"""
