"""The versioned results: what a run's record holds, the registry of records, and everything derived from them.

Importing the package imports nothing heavy; numpy, matplotlib and rich are imported where they are used.
"""
