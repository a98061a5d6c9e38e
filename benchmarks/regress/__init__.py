"""Is this still the code that reproduces? Small fixed budgets of every benchmark beside what they gave before."""
