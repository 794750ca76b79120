"""The algorithms of the provider ``malice``, one a module."""
