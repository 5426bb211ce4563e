"""What the server does under load, measured through HTTP. Imports nothing of ours."""
