"""Found by Django by its name."""
