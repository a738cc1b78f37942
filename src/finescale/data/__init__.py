"""Data in and out: files, block means, units, synthetic fields. Import from the modules."""
