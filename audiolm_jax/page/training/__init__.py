"""The page of trainings: curves, faults and clips of one or several work directories."""
