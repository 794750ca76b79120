"""What there is to know of a series of images before anything is computed: ``python -m malice_core.inspect``."""
