"""Everything that is derived from records for people and programs to read: tables and pictures."""
