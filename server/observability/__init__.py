"""What operators see: metrics and logs. Neither ever holds user text or a key."""
