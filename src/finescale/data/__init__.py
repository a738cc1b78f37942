"""Data in and out: files, block means, patches for training, synthetic fields. Import from the modules."""
