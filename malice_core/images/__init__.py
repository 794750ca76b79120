"""From a PATH to dated observations: finding files, reading their names and headers, reading their pixels.

``malice_core.stack`` is what the engine sees of it.
"""
