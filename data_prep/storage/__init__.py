"""Prepared data sets as files: written whole or not at all, proved by digests, read in parts."""
