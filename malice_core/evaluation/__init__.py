"""What features are worth: linear probe and nearest neighbours on a labelled raster, over fixed spatial folds."""
