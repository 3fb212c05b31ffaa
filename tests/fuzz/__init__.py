"""Coverage-guided fuzzing of every parser of external data: ``make fuzz``."""
