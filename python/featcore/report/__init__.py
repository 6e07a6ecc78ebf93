"""What a person sees of an experiment: the table on the terminal and the report on disk."""
