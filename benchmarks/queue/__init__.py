"""Many runs: side by side on this machine, or in the order of a list."""
