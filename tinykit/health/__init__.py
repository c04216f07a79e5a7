"""What is installed, what is missing, and the command that mends it. Third-party packages are looked for before they are imported."""
