"""Coverage-guided fuzzing of every parser of data from outside: ``make fuzz``."""
