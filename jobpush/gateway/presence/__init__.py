"""Who is there, as this process and all others tell it to each other through Redis."""
