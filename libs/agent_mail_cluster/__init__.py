"""What workers share besides the database: sessions and wake-ups."""
