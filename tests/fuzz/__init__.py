"""Coverage-guided fuzzing of every parser of foreign data: ``make fuzz``."""
