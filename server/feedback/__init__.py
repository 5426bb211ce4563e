"""The feedback log: which verdicts are kept for the next student, what moderators say of them, and how both reach the disk."""
