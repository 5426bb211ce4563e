"""The shared contract and vocabulary. Standard library only; imports nothing else of ours."""
