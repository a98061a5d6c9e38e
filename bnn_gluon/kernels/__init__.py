"""Compiled loops: nobody needs them in order to understand the engine, which computes the same without them, slower."""
