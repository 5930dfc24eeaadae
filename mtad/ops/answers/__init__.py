"""What operators ask of the database. Reads only; each answer is of one moment."""
