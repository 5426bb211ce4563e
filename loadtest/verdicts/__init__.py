"""What a server's verdicts are worth on labelled texts, through its public door."""
