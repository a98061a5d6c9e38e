"""What this machine is and how it computes: its facts, its environment, threads, and whether its products are right."""
