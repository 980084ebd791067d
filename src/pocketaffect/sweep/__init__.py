"""The search for the best network whose package fits a byte budget."""
